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

void read_settings(const std::string& folder, FoundRun& run) {
  const std::string path = configuration_of(folder);
  if (path.empty()) {
    run.notes.push_back("effective.yaml is missing: its settings are not known");
    return;
  }
  try {
    flatten(YAML::Load(read_file(path)), "", run.settings);
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
void read_log(const std::string& folder, FoundRun& run) {
  std::map<int64_t, json> steps, validations;
  int64_t broken = 0;
  read_lines(folder + "/log.jsonl", [&](std::string_view text) {
    json record = json::parse(text, nullptr, false);
    if (!record.is_object() || !record["kind"].is_string()) return void(++broken);
    const std::string kind = record["kind"], name = text_at(record, "name");
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
void read_expert(const std::string& folder, FoundRun& run) {
  for (const char* name : {"best", "final", "last"}) {
    const std::string file = std::string("experts/") + name + ".safetensors";
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

}  // namespace

FoundRun find_run(const std::string& folder) {
  FoundRun run;
  run.name = folder;
  while (run.name.size() > 1 && run.name.back() == '/') run.name.pop_back();
  if (!file_exists(run.name + "/run.json") && !file_exists(run.name + "/log.jsonl"))
    throw user_error("'", folder,
                     "' is no run folder: it has neither run.json nor log.jsonl; "
                     "give folders that svfleet train made");
  read_settings(run.name, run);
  read_log(run.name, run);
  read_expert(run.name, run);
  run.results = find_results(run.name, run.notes);
  return run;
}

}  // namespace svfleet
