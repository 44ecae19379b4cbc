#include "coordinator/commands/opening_set.h"

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "comm/error.h"
#include "coordinator/adaptation/shots.h"
#include "coordinator/commands/experts.h"

namespace svfleet {

NamedExperts open_named(const CommandLine& line, Crew& crew) {
  NamedExperts named;
  named.paths = line.experts;
  named.single = named.paths.size();
  if (!line.adapt.set.empty()) {
    named.set = load_expert_set(line.adapt.set);
    check_strategy(line.adapt, named.set);
    crew.agree("expert set", hash_bytes(read_file(line.adapt.set)));
    for (const std::string& file : named.set.files()) {
      for (const std::string& path : line.experts)
        if (resolved_path(expert_file(path)) == resolved_path(expert_file(file)))
          throw user_error("--expert '", path, "' is in '", line.adapt.set,
                           "' too; leave out the option");
      named.paths.push_back(file);
    }
  }
  named.measurable = named.single + named.set.members.size();
  named.experts = open_experts(named.paths, crew);
  return named;
}

OpenedSet on_model(const Base& base, const NamedExperts& named) {
  OpenedSet opened{named.set, {}, {}, {}};
  for (size_t i = named.single; i < named.experts.size(); ++i) {
    std::vector<float> z = flat_z(base, named.experts[i], named.paths[i]);
    if (i < named.measurable) {
      opened.z.push_back(std::move(z));
      opened.hashes.push_back(z_hash(named.experts[i]));
    } else {
      opened.classifier = std::move(z);
    }
  }
  return opened;
}

std::vector<std::string> texts_of(const std::vector<Task>& tasks) {
  std::vector<std::string> texts;
  for (const Task& task : tasks)
    for (const Item& item : task.items) texts.push_back(item.question);
  return texts;
}

Task shots_of(const AdaptRequest& request, const Config& config, Crew& crew) {
  if (request.strategy != "few_shot") return {};
  Task shots = load_shots(config, request.shots);
  crew.agree("shots", shots.content_hash);
  return shots;
}

}  // namespace svfleet
