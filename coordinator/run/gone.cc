#include "coordinator/run/gone.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/exit_report.h"
#include "comm/error.h"
#include "coordinator/config/config.h"
#include "coordinator/config/run_file.h"
#include "coordinator/run/record.h"

namespace svfleet {
namespace {

using nlohmann::json;

// What log.jsonl tells of the others.
struct Told {
  int64_t saved = -1;        // the last checkpoint
  bool z_is_beside = false;  // z of some step is in z.jsonl
  bool has_steps = false;
};

// The first checkpoint comes after the lines that tell of a start, and before this folder.
bool has_saved(const std::string& run_dir) {
  return is_folder(chunks_folder(run_dir));
}

Told read_log(const std::string& run_dir) {
  const bool begun = has_saved(run_dir);
  Told told;
  int64_t best_at = -1;  // of the validation before the step's record
  read_lines(run_dir + "/log.jsonl", [&](std::string_view line) {
    const json record = json::parse(line, nullptr, false);
    if (!record.is_object()) return;
    const std::string kind = text_in(record, "kind"), name = text_in(record, "name");
    const int64_t step = whole_in(record, "step", -1);
    if (kind == "event" && (name == "start" || name == "resume" || name == "fork")) {
      told.saved = begun ? step : -1;
    } else if (kind == "event" && name == "finish") {
      told.saved = std::max(told.saved, step);
    } else if (kind == "evaluation") {
      best_at = whole_in(record, "best_step", -1) == step ? step : -1;
    } else if (kind == "step") {
      told.has_steps = true;
      told.z_is_beside = told.z_is_beside || !record.contains("z");
      // Saving: the checkpoint behind the record of the step before, unless it was the best expert.
      const json seconds = record.value("seconds", json());
      if (seconds.is_object() && seconds.contains("save") && best_at != step)
        told.saved = std::max(told.saved, step - 1);
    }
  });
  return told;
}

// The step with which the last start began.
int64_t resumed_at(const std::string& run_dir) {
  int64_t step = -1;
  read_lines(run_dir + "/ledger.jsonl", [&](std::string_view line) {
    const json record = json::parse(line, nullptr, false);
    if (record.is_object() && text_in(record, "kind") == "resumed")
      step = whole_in(record, "step", -1);
  });
  return step;
}

// The first step that has finished chunks: behind a checkpoint those of the steps before it go.
int64_t first_chunk(const std::string& run_dir) {
  int64_t first = -1;
  for (const std::string& name : list_folder(chunks_folder(run_dir)))
    if (const auto of = chunk_file(name); of && (first < 0 || of->step < first)) first = of->step;
  return first;
}

bool samples_replies(const std::string& run_dir) {
  try {
    const std::string file = configuration_of(run_dir);
    return !file.empty() && parse_config(read_file(file), file).train.rollout_samples > 0;
  } catch (const Error&) {
    return false;
  }
}

std::string gone_checkpoint(const std::string& run_dir, const Told& told) {
  const auto exit = read_exit_report(run_dir);
  const std::pair<int64_t, const char*> witnesses[] = {
      {told.saved, "log.jsonl"},
      {exit ? exit->step : -1, "exit.json"},
      {has_saved(run_dir) ? resumed_at(run_dir) : -1, "ledger.jsonl"},
      {first_chunk(run_dir), "chunks/"}};
  const auto& [saved, by] =
      *std::max_element(std::begin(witnesses), std::end(witnesses),
                        [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::vector<int64_t> steps = checkpoint_steps(run_dir);
  const int64_t newest = steps.empty() ? -1 : steps.back();
  const std::string path = checkpoint_path(run_dir, saved);
  if (newest >= saved || file_exists(path + ".suspect") || file_exists(path + ".damaged"))
    return "";
  return "'" + path + "' is gone, which was saved, as " + by + " tells; " +
         (newest < 0 ? "no other is there: restore one from a copy"
                     : "restore it, or start the run again, which goes on from step " +
                           std::to_string(newest));
}

}  // namespace

std::vector<std::string> gone_files(const std::string& run_dir) {
  // In this order: a run that is alive saves and prunes meanwhile.
  const Told told = read_log(run_dir);
  std::vector<std::string> gone;
  if (const std::string line = gone_checkpoint(run_dir, told); !line.empty()) gone.push_back(line);
  const auto is_gone = [&](const char* name) { return !file_exists(run_dir + "/" + name); };
  const auto add = [&](const char* name, const std::string& why) {
    gone.push_back("'" + run_dir + "/" + name + "' is gone" + why);
  };
  const std::vector<int64_t> steps = checkpoint_steps(run_dir);
  if (!steps.empty()) {
    const std::string copy = "; put it back from a copy";
    if (is_gone("run.json")) add("run.json", ", which says which run this is" + copy);
    if (configuration_of(run_dir).empty())
      add("effective.yaml", ", the configuration with which the run began" + copy);
    if (is_gone("log.jsonl"))
      add("log.jsonl",
          ", although there is a checkpoint of step " + std::to_string(steps.back()) + copy);
  }
  if (told.z_is_beside && is_gone("z.jsonl"))
    add("z.jsonl", ", where log.jsonl has left the z of its steps; put it back from a copy");
  if (told.has_steps && is_gone("rollouts.jsonl") && samples_replies(run_dir))
    add("rollouts.jsonl",
        ", the replies that train.rollout_samples asks for; put it back from a copy");
  return gone;
}

}  // namespace svfleet
