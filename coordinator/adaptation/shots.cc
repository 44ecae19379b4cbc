#include "coordinator/adaptation/shots.h"

#include <map>
#include <set>

#include "comm/error.h"

namespace svfleet {
namespace {

std::string place(const std::string& file, const Item& item) {
  return file + ":" + std::to_string(item.index + 1);
}

void refuse_items_of(const TaskSpec& spec, const std::string& split, const Task& shots) {
  const std::string& file = split_file(spec, split);
  if (file.empty()) return;
  std::map<std::string, std::string> prompts, clusters;  // -> "shots.jsonl:3"
  for (const Item& shot : shots.items) {
    prompts.emplace(shot.question, place(shots.spec.train, shot));
    if (!shot.cluster.empty()) clusters.emplace(shot.cluster, place(shots.spec.train, shot));
  }
  for (const Item& item : load_task(spec, split).items) {
    auto same = prompts.find(item.question);
    const bool is_prompt = same != prompts.end();
    if (!is_prompt && (same = clusters.find(item.cluster)) == clusters.end()) continue;
    throw user_error(same->second, ": this shot ", is_prompt ? "" : "is of a cluster that ",
                     is_prompt ? "also stands" : "also has items", " in the ", split, " split, ",
                     place(file, item),
                     ": what is measured there would be memory; take shots from ",
                     "the train split");
  }
}

}  // namespace

Task load_shots(const Config& config, const std::string& file) {
  if (config.tasks.size() != 1)
    throw user_error("'", config.file, "' has ", config.tasks.size(),
                     " tasks, but shots are of one; give it with --set task=FILE");
  TaskSpec spec = config.tasks.front();
  spec.train = file;
  const Task shots = load_task(spec, "train");
  for (const Item& shot : shots.items)
    if (shot.gold.answer.empty())
      throw user_error(place(file, shot), ": the shot has no answer; give it in the field '",
                       spec.answer, "'");
  for (const std::string& split : std::set<std::string>{"test", config.evaluate.split})
    refuse_items_of(config.tasks.front(), split, shots);
  return shots;
}

}  // namespace svfleet
