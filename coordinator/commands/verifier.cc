#include "coordinator/commands/verifier.h"

#include <algorithm>
#include <optional>

#include "checkpoints/clean.h"
#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/run_names.h"
#include "cluster/exit_report.h"
#include "comm/error.h"
#include "coordinator/config/targets.h"
#include "coordinator/training/best.h"
#include "worker/model/model_tensors.h"

namespace svfleet {

using nlohmann::json;

std::string folder_of(const Config& config, const std::string& kind) {
  if (kind == "model") return config.model.path;
  if (kind == "factors") return store_folder(config);
  return config.run_dir + "/" + kind;
}

std::map<std::string, int64_t> wanted_experts(const Config& config) {
  std::map<std::string, int64_t> wanted;
  std::optional<RunState> state;
  try {
    state = load_newest_checkpoint(config.run_dir).state;
  } catch (const Error&) {  // is told where the checkpoints are read
  }
  if (!state) return wanted;
  const auto exit = read_exit_report(config.run_dir);
  const bool same_experts = names_of(*state) == expert_names(config);
  const bool is_over = exit && exit->code == kExitFinished && exit->step == state->step &&
                       same_experts && exit->reason == how_it_finished(*state, config);
  const std::vector<std::string> names = names_of(*state);
  for (size_t e = 0; e < names.size(); ++e) {
    const RunState& own = *states_of(*state)[e];
    const std::string folder = names[e].empty() ? "" : names[e] + "/";
    if (own.best_step >= 0) wanted[folder + "best.safetensors"] = own.best_step;
    if (is_over) wanted[folder + "final.safetensors"] = own.step;
  }
  return wanted;
}

json find_all(const Config& config, const FactorStore::Manifest& manifest,
              const std::vector<Target>& targets, const std::map<std::string, int64_t>& wanted,
              json& foreign) {
  json all = json::array();
  const std::vector<std::string> experts = expert_names(config);
  for (const auto& [name, hash] : manifest.tensor_hashes) all.push_back({"model", name});
  for (const Target& target : targets) all.push_back({"factors", target.name});
  for (int64_t step : checkpoint_steps(config.run_dir))
    all.push_back({"checkpoints", std::to_string(step)});
  const auto look = [&](const std::string& kind, const std::string& below) {
    for (const std::string& name : list_folder(folder_of(config, kind) + "/" + below))
      if (is_run_temporary(kind, name) || name.ends_with(".suspect"))
        continue;
      else if (kind == "experts" ? is_run_expert(name) : is_run_name(kind, name))
        all.push_back({kind, below + name});
      else if (std::string path = below + name;
               kind != "experts" || std::count(experts.begin(), experts.end(), path) == 0)
        foreign.push_back(folder_of(config, kind) + "/" + path);
  };
  look("chunks", "");
  look("experts", "");
  for (const std::string& expert : experts)
    if (!expert.empty()) look("experts", expert + "/");
  for (const auto& [name, step] : wanted)
    if (!file_exists(folder_of(config, "experts") + "/" + name)) all.push_back({"experts", name});
  return all;
}

Verifier::Verifier(const Config& config, std::vector<Target> targets,
                   FactorStore::Manifest manifest, std::map<std::string, int64_t> wanted_experts)
    : config_(config),
      files_(open_tensors(config.model.path,
                          read_architecture(config.model.path, config.model.max_length))),
      store_(store_folder(config)),
      manifest_(std::move(manifest)),
      wanted_(std::move(wanted_experts)) {
  for (Target& target : targets) targets_[target.name] = target;
}

std::string Verifier::problem(const std::string& kind, const std::string& name) const {
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
      check_chunk_file(file);
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

std::string Verifier::other_model(const std::string& what, const std::string& hash) const {
  if (hash == manifest_.model_hash) return "";
  return what + " was made on base model " + hash + ", not on " + manifest_.model_hash;
}

}  // namespace svfleet
