#include "coordinator/commands/evaluation_rows.h"

#include <algorithm>

#include "coordinator/run/json_line.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Whether a score is more than right or wrong: then the mean score is what is meant.
bool graded(const std::vector<EvaluationRow>& rows) {
  for (const EvaluationRow& row : rows)
    for (const ItemResult& item : row.evaluation.items)
      if (!item.right && item.score > 0) return true;
  return false;
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

json row_json(const std::vector<EvaluationRow>& rows, size_t i, bool with_gain) {
  const EvaluationRow& row = rows[i];
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

// Scores are in [0, 1], and so is what a score may rise by in [-1, 1].
PairedT gain_in_score(const Evaluation& from, const Evaluation& to) {
  PairedT gain = paired_t(from.scores(), to.scores());
  gain.low = std::max(gain.low, -1.0);
  gain.high = std::min(gain.high, 1.0);
  return gain;
}

}  // namespace

EvaluationRow row_beside(const EvaluationRow& base, Evaluation evaluation, size_t of) {
  EvaluationRow row{std::move(evaluation), {}, {}, of};
  row.paired = mcnemar(base.evaluation.verdicts(), row.evaluation.verdicts());
  row.gain = gain_in_score(base.evaluation, row.evaluation);
  return row;
}

json results_json(const std::vector<EvaluationRow>& rows) {
  json results = json::array();
  const bool with_gain = graded(rows);
  for (size_t i = 0; i < rows.size(); ++i) results.push_back(row_json(rows, i, with_gain));
  return results;
}

std::string item_lines(const std::vector<Task>& tasks, const std::vector<EvaluationRow>& rows) {
  std::string lines;
  size_t i = 0;
  for (const Task& task : tasks)
    for (const Item& item : task.items) {
      json replies = json::object();
      for (const EvaluationRow& row : rows) {
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

}  // namespace svfleet
