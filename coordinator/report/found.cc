#include "coordinator/report/found.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/run_file.h"
#include "coordinator/report/results.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string flow(const YAML::Node& node) {
  if (node.IsScalar()) return node.Scalar();
  YAML::Emitter out;
  out.SetSeqFormat(YAML::Flow);
  out.SetMapFormat(YAML::Flow);
  out << node;
  return out.c_str();
}

void flatten(const YAML::Node& node, const std::string& prefix,
             std::map<std::string, std::string>& out) {
  if (!node.IsMap()) {
    if (node.IsDefined() && !node.IsNull()) out[prefix] = flow(node);
    return;
  }
  for (const auto& pair : node)
    flatten(pair.second, (prefix.empty() ? "" : prefix + ".") + pair.first.Scalar(), out);
}

// Its own settings stand over those of the run.
void read_own_settings(const YAML::Node& experts, const std::string& expert,
                       std::map<std::string, std::string>& settings) {
  settings.erase("experts");
  if (!experts.IsSequence()) return;
  for (const YAML::Node& one : experts)
    if (one.IsMap() && one["name"].IsScalar() && one["name"].Scalar() == expert)
      for (const char* section : {"task", "train"})
        if (one[section].IsDefined()) flatten(one[section], section, settings);
}

void read_settings(const std::string& folder, const std::string& expert, FoundRun& run) {
  const std::string path = configuration_of(folder);
  if (path.empty()) {
    run.notes.push_back("effective.yaml is missing: its settings are not known");
    return;
  }
  try {
    const YAML::Node all = YAML::Load(read_file(path));
    flatten(all, "", run.settings);
    if (!expert.empty()) read_own_settings(all["experts"], expert, run.settings);
  } catch (const YAML::Exception& error) {
    run.notes.push_back("effective.yaml cannot be read: " + error.msg);
  }
  run.settings.erase("run_dir");  // differs always, and stands above
}

std::vector<json> in_order(const std::map<int64_t, json>& by_step) {
  std::vector<json> out;
  for (const auto& [step, record] : by_step) out.push_back(record);
  return out;
}

// A later line of a step is of a later attempt, or of the same one: the last counts
// (docs/formats.md).
void read_log(const std::string& folder, const std::string& expert, FoundRun& run) {
  std::map<int64_t, json> steps, validations;
  int64_t broken = 0;
  read_lines(folder + "/log.jsonl", [&](std::string_view text) {
    json record = json::parse(text, nullptr, false);
    if (!record.is_object() || !record["kind"].is_string()) return void(++broken);
    const std::string kind = record["kind"], name = text_at(record, "name");
    const std::string of = text_at(record, "expert");
    if (!of.empty() && of != expert) return;
    if (kind == "event" && (name == "start" || name == "resume" || name == "fork")) {
      run.log.starts += 1;
      run.log.finished = false;
      if (record["ranks"].is_number_integer()) run.log.ranks = record["ranks"];
    }
    if (kind == "event" && name == "finish") run.log.finished = true;
    if (!record["step"].is_number_integer()) return;
    const int64_t step = record["step"];
    if (kind == "step") steps[step] = std::move(record);
    if (kind == "evaluation" && name == "validation") validations[step] = std::move(record);
  });
  run.log.steps = in_order(steps);
  run.log.validations = in_order(validations);
  if (broken)
    run.notes.push_back("log.jsonl: " + std::to_string(broken) +
                        (broken == 1 ? " line is" : " lines are") + " no record, left out");
  if (!run.log.finished) {
    const auto wanted = run.settings.find("train.steps");
    run.notes.push_back("not finished: " + std::to_string(run.log.steps.size()) + " of " +
                        (wanted == run.settings.end() ? "?" : wanted->second) + " steps");
  }
}

// The one to use first (docs/training.md): best where steps were validated, else final; last of a
// run that was stopped.
void read_expert(const std::string& folder, const std::string& expert, FoundRun& run) {
  for (const char* name : {"best", "final", "last"}) {
    const std::string file =
        "experts/" + (expert.empty() ? "" : expert + "/") + name + ".safetensors";
    if (!file_exists(folder + "/" + file)) continue;
    try {
      run.expert = read_safetensors(folder + "/" + file);
      run.expert_file = file;
      return;
    } catch (const Error& error) {
      run.notes.push_back(file + " cannot be read: " + error.what());
    }
  }
  run.notes.push_back("no expert yet");
}

std::vector<std::string> experts_of(const std::string& folder) {
  try {
    if (const auto run = read_run_file(folder)) return run->experts;
  } catch (const Error&) {  // of something else: what is there is told all the same
  }
  return {""};
}

}  // namespace

std::vector<FoundRun> find_runs(const std::string& folder) {
  std::string path = folder;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!file_exists(path + "/run.json") && !file_exists(path + "/log.jsonl"))
    throw user_error("'", folder,
                     "' is no run folder: it has neither run.json nor log.jsonl; "
                     "give folders that svfleet train made");
  std::vector<FoundRun> runs;
  for (const std::string& expert : experts_of(path)) {
    FoundRun& run = runs.emplace_back();
    run.folder = path;
    run.name = expert.empty() ? path : path + "/experts/" + expert;
    read_settings(path, expert, run);
    read_log(path, expert, run);
    read_expert(path, expert, run);
    if (runs.size() == 1) run.results = find_results(path, run.notes);
  }
  return runs;
}

}  // namespace svfleet
