// svfleet evaluate: base and experts on the same items, with intervals and a paired test.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoints/out_file.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/base/splits.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/controls.h"
#include "coordinator/commands/evaluation_table.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/json_line.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Row {
  Evaluation evaluation;
  McNemar paired;  // against the base
  PairedT gain;    // of the score, likewise
  size_t of = 0;   // of a control: the row of its expert
};

// Whether a score is more than right or wrong: then the mean score is what is meant.
bool graded(const std::vector<Row>& rows) {
  for (const Row& row : rows)
    for (const ItemResult& item : row.evaluation.items)
      if (!item.right && item.score > 0) return true;
  return false;
}

// Scores are in [0, 1], and so is what a score may rise by in [-1, 1].
PairedT gain_in_score(const Evaluation& from, const Evaluation& to) {
  PairedT gain = paired_t(from.scores(), to.scores());
  gain.low = std::max(gain.low, -1.0);
  gain.high = std::min(gain.high, 1.0);
  return gain;
}

// Whether the expert is not clearly better than this control of it, by the test of the table.
bool reaches(const Evaluation& control, const Evaluation& expert, bool by_score) {
  const double p = by_score ? paired_t(control.scores(), expert.scores()).p
                            : mcnemar(control.verdicts(), expert.verdicts()).p;
  return p > 0.05 || expert.all.score() <= control.all.score();
}

json numbers(const Tally& tally) {
  const Interval interval = wilson(tally.right, tally.counted);
  return {{"right", tally.right},         {"n", tally.counted},
          {"accuracy", tally.accuracy()}, {"low", interval.low},
          {"high", interval.high},        {"score", tally.score()},
          {"ended", tally.ended_share()}, {"mean_tokens", tally.mean_tokens()}};
}

json row_json(const std::vector<Row>& rows, size_t i, bool with_gain) {
  const Row& row = rows[i];
  const bool is_base = i == 0;
  json out = numbers(row.evaluation.all);
  out["name"] = row.evaluation.name;
  for (const Tally& tally : row.evaluation.by_task) {
    json task = numbers(tally);
    task["task"] = tally.task;
    out["by_task"].push_back(task);
  }
  if (!is_base) {
    out["p_value"] = row.paired.p;
    out["only_base"] = row.paired.only_first;
    out["only_expert"] = row.paired.only_second;
    if (with_gain)
      out.update({{"score_gain", row.gain.gain},
                  {"score_low", row.gain.low},
                  {"score_high", row.gain.high},
                  {"score_p_value", row.gain.p}});
  }
  for (size_t k = i + 1; k < rows.size(); ++k)
    if (!is_base && rows[k].of == i) {
      json& reached_by = out["reached_by"];
      if (reached_by.is_null()) reached_by = json::array();
      if (reaches(rows[k].evaluation, row.evaluation, with_gain))
        reached_by.push_back(rows[k].evaluation.name);
    }
  return out;
}

std::string item_lines(const std::vector<Task>& tasks, const std::vector<Row>& rows) {
  std::string lines;
  size_t i = 0;
  for (const Task& task : tasks)
    for (const Item& item : task.items) {
      json replies = json::object();
      for (const Row& row : rows) {
        const ItemResult& result = row.evaluation.items[i];
        replies[row.evaluation.name] = {{"right", result.right},
                                        {"score", result.score},
                                        {"ended", result.ended},
                                        {"tokens", result.tokens},
                                        {"reply", result.reply}};
      }
      const json record = {{"task", task.spec.name},
                           {"item", item.index},
                           {"prompt", item.messages.back().content},
                           {"gold", item.gold.answer},
                           {"replies", replies}};
      lines += json_line(record) + "\n";
      ++i;
    }
  return lines;
}

// Whether results of evaluate are there, or nothing.
bool may_go(const std::string& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none) || fs::file_size(path, none) == 0) return true;
  std::ifstream in(path);
  std::string first;
  std::getline(in, first);
  const json record = json::parse(first, nullptr, false);
  return record.is_object() && record.contains("item") && record.contains("replies");
}

// Results must not take the place of what they are measured from, nor of a part of a run, nor of
// anything else but older results.
void check_out(const CommandLine& line, const Config& config) {
  std::vector<std::string> read = line.experts;
  read.push_back(config.file);
  for (const TaskSpec& task : config.tasks)
    read.insert(read.end(), {task.train, task.validation, task.test, task.few_shot});
  const auto same = [](const fs::path& a, const fs::path& b) {
    std::error_code none;  // not there
    return !a.empty() && !b.empty() && fs::equivalent(a, b, none);
  };
  for (const std::string& input : read)
    if (same(line.out, input))
      throw user_error("--out '", line.out, "' is a file that svfleet reads here; choose another");
  std::error_code none;
  const fs::path out = fs::weakly_canonical(line.out, none), folder = out.parent_path();
  const auto in_run = [&](const fs::path& run, const std::string& below) {
    return fs::exists(run / "run.json", none) && is_run_name(below, out.filename());
  };
  if (same(folder, config.model.path) || in_run(folder, "") ||
      in_run(folder.parent_path(), folder.filename()))
    throw user_error("--out '", line.out, "' is a file of a run or in the model's folder; choose ",
                     "another");
  if (!may_go(line.out))
    throw user_error("--out '", line.out, "' is there already and holds no results of svfleet ",
                     "evaluate; choose another, or remove it first");
}

// What --json does not show in its table.
void warn_of_controls(const json& found) {
  for (const json& result : found["results"])
    if (const json names = result.value("reached_by", json::array()); !names.empty())
      spdlog::warn("{}", reached_text(names, result["name"]));
}

}  // namespace

int evaluate_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  std::vector<Expert> experts;
  for (const std::string& path : line.experts) experts.push_back(load_expert(path));
  const Config config = adapting(experts, given);
  std::vector<Task> tasks;
  std::string data;
  for (const TaskSpec& spec : config.tasks) {
    tasks.push_back(load_task(spec, config.evaluate.split, config.evaluate.items));
    data += tasks.back().content_hash;
  }
  crew.agree("evaluation data", data);
  crew.on_leader("check the items", [&] { check_items(config, {{config.evaluate.split, tasks}}); });
  std::string expert_hashes;
  for (const Expert& expert : experts) expert_hashes += z_hash(expert) + " ";
  crew.agree("experts", expert_hashes);
  std::optional<OutFile> out;
  if (crew.leads() && !line.out.empty()) {
    check_out(line, config);
    out.emplace(line.out);  // fail now, not at the end
  }
  if (crew.leads())
    for (const std::string& text : prompts_in_two_splits(config, config.evaluate.split))
      spdlog::warn("{}", text);
  Base base = open_base(config, crew);
  crew.on_leader("compare with the run", [&] {
    if (const auto run = check_trained_with(config, base.hashes))
      for (const std::string& text : changed_items(*run)) spdlog::warn("{}", text);
  });

  EvaluationOptions options;
  options.batch = config.evaluate.batch;
  options.sampling = {config.evaluate.temperature,    config.evaluate.top_k,
                      config.evaluate.top_p,          config.evaluate.min_p,
                      uint64_t(config.evaluate.seed), 0};
  struct Measured {
    std::string name;
    std::vector<float> z;
    size_t of;  // as in Row
  };
  std::vector<Measured> policies;
  if (!experts.empty()) {
    if (!open_factors(config, crew, base, experts, line.experts)) return kExitRequeue;
    for (size_t i = 0; i < experts.size(); ++i) {
      std::vector<float> z = flat_z(base, experts[i], line.experts[i]);
      policies.push_back({line.experts[i], z, 0});
      if (!line.controls) continue;
      const size_t row = policies.size();  // behind the base's
      policies.push_back({line.experts[i] + " shuffled", shuffled(base.basis->targets(), z), row});
      policies.push_back({line.experts[i] + " mirrored", mirrored(z), row});
    }
  }
  std::vector<Row> rows;
  WeightWatch watch(frozen(base), crew, 0);
  auto base_result = evaluate_policy(base, crew, base_policy(base), tasks, options, "base");
  if (!base_result) return kExitRequeue;
  rows.push_back({*base_result, {}, {}, 0});
  for (const auto& [name, z, of] : policies) {
    const Policy policy = enforce(base, crew, z, config.train.sampling_form == "merged");
    auto result = evaluate_policy(base, crew, policy, tasks, options, name);
    if (!result) return kExitRequeue;
    rows.push_back({*result, {}, {}, of});
    if (!crew.leads()) continue;
    rows.back().paired = mcnemar(base_result->verdicts(), result->verdicts());
    rows.back().gain = gain_in_score(*base_result, *result);
  }
  if (const std::string change = watch.look_at_all(1); !change.empty())
    throw Error(kExitRequeue,
                change + " changed in memory during the evaluation: bad memory; start again",
                watch.changed_here());
  if (!crew.leads()) return kExitFinished;
  json found = {{"split", config.evaluate.split},
                {"n", rows[0].evaluation.all.counted},
                {"temperature", config.evaluate.temperature}};
  const bool with_gain = graded(rows);
  for (size_t i = 0; i < rows.size(); ++i) found["results"].push_back(row_json(rows, i, with_gain));
  if (line.json)
    std::printf("%s\n", json_line(found).c_str());
  else
    std::fputs(evaluation_table(found).c_str(), stdout);
  if (line.json) warn_of_controls(found);
  std::fflush(stdout);  // what was measured is told even where the file fails now
  if (out) out->write(item_lines(tasks, rows));
  return kExitFinished;
}

}  // namespace svfleet
