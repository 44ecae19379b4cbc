// svfleet verify: reads again, to the last byte, everything that a run rests on. A start reads the
// weights that it loads, the newest checkpoint and the factors; this reads the rest too.
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoints/clean.h"
#include "checkpoints/file.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_names.h"
#include "cluster/exit_report.h"
#include "coordinator/base/base.h"
#include "coordinator/commands/commands.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/gone.h"
#include "coordinator/run/json_line.h"
#include "coordinator/run/log_index.h"
#include "coordinator/training/best.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/trained_with.h"
#include "svd/store.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr const char* kKinds[] = {"model", "factors", "checkpoints", "chunks", "experts"};

std::string folder_of(const Config& config, const std::string& kind) {
  if (kind == "model") return config.model.path;
  if (kind == "factors") return store_folder(config);
  return config.run_dir + "/" + kind;
}

// Of experts/ what a run writes and must still have: the last one of a run that is finished, and
// the best one where there is one. With the step whose z it is.
std::map<std::string, int64_t> wanted_experts(const Config& config) {
  std::map<std::string, int64_t> wanted;
  std::optional<RunState> state;
  try {
    state = load_newest_checkpoint(config.run_dir).state;
  } catch (const Error&) {  // is told where the checkpoints are read
  }
  if (!state) return wanted;
  if (state->best_step >= 0) wanted["best.safetensors"] = state->best_step;
  const auto exit = read_exit_report(config.run_dir);
  if (exit && exit->code == kExitFinished && exit->step == state->step &&
      exit->reason == how_it_finished(*state, config))
    wanted["final.safetensors"] = state->step;
  return wanted;
}

// What is to be read, as rank 0 has found it: [kind, name] each. Other nodes may see an old
// listing. Files of others in the run's folders are told as `foreign`, and are not ours to judge.
json find_all(const Config& config, const FactorStore::Manifest& manifest,
              const std::vector<Target>& targets, const std::map<std::string, int64_t>& wanted,
              json& foreign) {
  json all = json::array();
  for (const auto& [name, hash] : manifest.tensor_hashes) all.push_back({"model", name});
  for (const Target& target : targets) all.push_back({"factors", target.name});
  for (int64_t step : checkpoint_steps(config.run_dir))
    all.push_back({"checkpoints", std::to_string(step)});
  for (const char* kind : {"chunks", "experts"})
    for (const std::string& name : list_folder(folder_of(config, kind)))
      if (is_run_temporary(kind, name) || name.ends_with(".suspect"))
        continue;
      else if (kind == std::string("experts") ? is_run_expert(name) : is_run_name(kind, name))
        all.push_back({kind, name});
      else
        foreign.push_back(folder_of(config, kind) + "/" + name);
  for (const auto& [name, step] : wanted)
    if (!file_exists(folder_of(config, "experts") + "/" + name)) all.push_back({"experts", name});
  return all;
}

class Verifier {
 public:
  Verifier(const Config& config, std::vector<Target> targets, FactorStore::Manifest manifest,
           std::map<std::string, int64_t> wanted_experts)
      : config_(config),
        files_(config.model.path),
        store_(store_folder(config)),
        manifest_(std::move(manifest)),
        wanted_(std::move(wanted_experts)) {
    for (Target& target : targets) targets_[target.name] = target;
  }

  // What is wrong, in one line, or nothing. Thread-safe.
  std::string problem(const std::string& kind, const std::string& name) const {
    const std::string file = folder_of(config_, kind) + "/" + name;
    try {
      if (kind == "model") {
        if (files_.tensor_hash(name) != manifest_.tensor_hashes.at(name))
          return "tensor '" + name + "' of '" + config_.model.path + "' is not what '" +
                 store_.folder() + "' was made from; put the model's files back";
      } else if (kind == "factors") {
        store_.load(targets_.at(name), manifest_.tensor_hashes.at(name), config_.svd.tolerance);
      } else if (kind == "checkpoints") {
        const RunState state = load_checkpoint(config_.run_dir, std::stoll(name));
        return other_model("the checkpoint of step " + name, state.model_hash);
      } else if (kind == "chunks") {
        Hdf5Reader(read_file(file), file);
      } else if (!file_exists(file)) {
        const auto step = wanted_.find(name);
        if (step == wanted_.end()) return "";  // removed meanwhile
        const bool can_be_made = file_exists(checkpoint_path(config_.run_dir, step->second));
        return "'" + file + "' is gone: z after step " + std::to_string(step->second) +
               (can_be_made ? "; start the run again, which makes it again from a checkpoint"
                            : ", of which no checkpoint is there either; restore it");
      } else {
        const Expert expert = load_expert(file);
        const auto made_on = expert.metadata.find("model_hash");
        if (made_on != expert.metadata.end()) return other_model(file, made_on->second);
      }
    } catch (const Error& error) {
      // A run that goes on removes what it no longer needs.
      if (kind == "chunks" && !file_exists(file)) return "";
      if (kind == "checkpoints" && !file_exists(checkpoint_path(config_.run_dir, std::stoll(name))))
        return "";
      return error.what();
    }
    return "";
  }

 private:
  std::string other_model(const std::string& what, const std::string& hash) const {
    if (hash == manifest_.model_hash) return "";
    return what + " was made on base model " + hash + ", not on " + manifest_.model_hash;
  }

  const Config& config_;
  const SafetensorsFolder files_;
  const FactorStore store_;
  const FactorStore::Manifest manifest_;
  const std::map<std::string, int64_t> wanted_;
  std::map<std::string, Target> targets_;
};

// What is read as text, and of which only the run's checkpoint says what it was.
std::vector<std::string> changed_texts(const Config& config) {
  const auto run = load_newest_checkpoint(config.run_dir).state;
  if (!run) return {};
  std::vector<std::string> lines;
  try {
    const Architecture architecture = read_architecture(config.model.path);
    const Texts texts = open_texts(config, architecture);
    for (const std::string& file : changed_model_files(
             *run, config, folder_hashes(architecture, *texts.tokenizer, texts.chat.get())))
      lines.push_back(file + " is not what the run was trained with; put it back");
  } catch (const Error& error) {
    lines.push_back(error.what());
  }
  for (const std::string& line : changed_items(*run)) lines.push_back(line);
  return lines;
}

FactorStore::Manifest manifest_of(const Config& config, const std::vector<Target>& targets) {
  const FactorStore store(store_folder(config));
  FactorStore::Manifest manifest;
  if (!store.load_manifest(&manifest))
    throw user_error("there is no '", store.folder(), "/store.json' that says what the model was; ",
                     "run svfleet decompose");
  for (const Target& target : targets)
    if (!manifest.tensor_hashes.contains(target.name))
      throw disk_error("'", store.folder(), "/store.json' does not say what tensor '", target.name,
                       "' was; run svfleet decompose");
  return manifest;
}

// Whether a run of these very folders has begun: what is wrong with them then is damage.
bool rests_on_these(const Config& config) {
  try {
    const auto run = load_newest_checkpoint(config.run_dir).state;
    const auto of_run = run ? config_of(*run) : std::nullopt;
    return of_run && resolved_path(of_run->model.path) == resolved_path(config.model.path) &&
           resolved_path(store_folder(*of_run)) == resolved_path(store_folder(config));
  } catch (const Error&) {
    return false;
  }
}

// What all that is read is compared with.
struct Truth {
  std::vector<Target> targets;
  FactorStore::Manifest manifest;
};

Truth open_truth(const Config& config) {
  try {
    Truth truth;
    truth.targets = targets_of(config, read_architecture(config.model.path));
    truth.manifest = manifest_of(config, truth.targets);
    SafetensorsFolder(config.model.path);  // can it be opened?
    return truth;
  } catch (const Error& error) {
    if (error.code() == kExitUser && rests_on_these(config)) throw disk_error(error.what());
    throw;
  }
}

}  // namespace

int verify_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  const auto [targets, manifest] = open_truth(config);
  std::string told;
  json foreign = json::array();
  if (crew.leads()) {
    const auto wanted = wanted_experts(config);
    told = json{{"all", find_all(config, manifest, targets, wanted, foreign)}, {"wanted", wanted}}
               .dump();
  }
  crew.group().broadcast(told, 0, "what is to be verified");
  const json heard = json::parse(told);
  const auto all = heard["all"].get<std::vector<std::pair<std::string, std::string>>>();
  const Verifier verifier(config, targets, manifest,
                          heard["wanted"].get<std::map<std::string, int64_t>>());
  const auto found = crew.collect(
      {"verify", "verify", "tensors and files", int64_t(all.size())},
      [&](int64_t i, int64_t) { return verifier.problem(all[i].first, all[i].second); });
  if (!found) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;

  std::map<int, std::string> problems;  // by place in `all`
  for (size_t i = 0; i < all.size(); ++i)
    if (!(*found)[i].empty()) problems[int(i)] = (*found)[i];
  const std::vector<std::string> torn = broken_lines(config.run_dir);
  json report = {{"problems", json::array()}};
  for (const char* kind : kKinds) {
    const auto is = [&](const auto& item) { return item.first == kind; };
    const auto bad = std::count_if(problems.begin(), problems.end(),
                                   [&](const auto& p) { return is(all[p.first]); });
    const auto total = std::count_if(all.begin(), all.end(), is);
    report[kind] = {{"path", folder_of(config, kind)}, {"read", total}, {"damaged", bad}};
    if (!line.json)
      std::printf("%-12s %4td read, %td damaged   %s\n", kind, total, bad,
                  folder_of(config, kind).c_str());
  }
  for (const auto& [i, problem] : problems) report["problems"].push_back(problem);
  for (const std::string& where : torn) report["problems"].push_back(where);
  for (const std::string& gone : gone_files(config.run_dir)) report["problems"].push_back(gone);
  for (const std::string& changed : changed_texts(config)) report["problems"].push_back(changed);
  // Not damaged, and used by nobody: made with weights that had changed in memory.
  report["suspect"] = json::array();
  for (const std::string& name : suspect_checkpoints(config.run_dir)) {
    report["suspect"].push_back(config.run_dir + "/checkpoints/" + name);
    if (!line.json)
      std::printf(
          "'%s/checkpoints/%s' is suspect: made with weights that had changed in memory; "
          "it is not used and may be removed\n",
          config.run_dir.c_str(), name.c_str());
  }
  report["foreign"] = foreign;
  if (!line.json)
    for (const json& file : foreign)
      std::printf("'%s' is not svfleet's and was not read\n",
                  shown(file.get<std::string>()).c_str());
  if (line.json)
    std::printf("%s\n", json_line(report).c_str());  // names of others may be any bytes
  else
    for (const json& problem : report["problems"])
      std::printf("%s\n", problem.get<std::string>().c_str());
  std::fflush(stdout);
  if (!report["problems"].empty())
    throw disk_error(report["problems"].size(), " of what '", line.config_file,
                     "' rests on is damaged or has changed; it is listed above");
  return kExitFinished;
}

}  // namespace svfleet
