#include "coordinator/commands/evaluation_rows.h"

#include "coordinator/training/comparison.h"

namespace svfleet {
namespace {

using nlohmann::json;

json at_k_json(const std::vector<AtK>& all) {
  json out = json::array();
  for (const AtK& at : all)
    out.push_back({{"k", at.k},
                   {"pass", at.pass},
                   {"pass_low", at.pass_interval.low},
                   {"pass_high", at.pass_interval.high},
                   {"majority", at.majority},
                   {"majority_low", at.majority_interval.low},
                   {"majority_high", at.majority_interval.high}});
  return out;
}

json figures_json(const Figures& figures) {
  const Tally& tally = figures.tally;
  json out = {{"right", tally.right},          {"n", tally.counted},
              {"accuracy", tally.accuracy()},  {"low", figures.accuracy.low},
              {"high", figures.accuracy.high}, {"score", tally.score()},
              {"ended", tally.ended_share()},  {"mean_tokens", tally.mean_tokens()}};
  if (!figures.at_k.empty()) out["at_k"] = at_k_json(figures.at_k);
  return out;
}

// Tasks in the order of their items.
std::vector<std::string> task_names(const Measurement& measured) {
  std::vector<std::string> names;
  for (const MeasuredItem& item : measured.items)
    if (names.empty() || names.back() != item.task) names.push_back(item.task);
  return names;
}

json comparison_json(const Comparison& with_base, bool graded, bool clustered) {
  json out = {{"p_value", with_base.p},
              {"only_base", with_base.first_better},
              {"only_expert", with_base.second_better}};
  if (clustered)
    out.update({{"gain", with_base.accuracy.gain},
                {"gain_low", with_base.accuracy.low},
                {"gain_high", with_base.accuracy.high}});
  if (graded)
    out.update({{"score_gain", with_base.score.gain},
                {"score_low", with_base.score.low},
                {"score_high", with_base.score.high},
                {"score_p_value", with_base.score.p}});
  return out;
}

// Whether the expert is not clearly better than this control of it, by the test of the table.
bool reaches(const Measurement& measured, size_t control, size_t expert, bool graded) {
  const Comparison beside = compare_policies(measured, control, expert);
  const double p = graded ? beside.score.p : beside.p;
  return p > 0.05 || beside.score.gain <= 0;
}

json reached_by(const Measurement& measured, size_t expert, bool graded) {
  json names;
  for (size_t k = expert + 1; k < measured.policies.size(); ++k) {
    if (measured.policies[k].of != expert) continue;
    if (names.is_null()) names = json::array();
    if (reaches(measured, k, expert, graded)) names.push_back(measured.policies[k].name);
  }
  return names;
}

// Several experts beside one base: the p of each with regard to all. Controls are no claims.
void adjust(const Measurement& measured, const char* plain, const char* adjusted, json& results) {
  std::vector<size_t> experts;
  std::vector<double> p;
  for (size_t i = 1; i < results.size(); ++i)
    if (measured.policies[i].of == 0 && results[i].contains(plain)) {
      experts.push_back(i);
      p.push_back(results[i][plain]);
    }
  if (experts.size() < 2) return;
  const std::vector<double> all = holm(p);
  for (size_t k = 0; k < experts.size(); ++k) results[experts[k]][adjusted] = all[k];
}

json results_json(const Measurement& measured) {
  const bool graded = is_graded(measured), clustered = has_clusters(measured);
  const std::vector<std::string> names_of_tasks = task_names(measured);
  json results = json::array();
  for (size_t i = 0; i < measured.policies.size(); ++i) {
    const json all = figures_json(figures_of(measured, i, ""));
    json row = all;
    row["name"] = measured.policies[i].name;
    for (const std::string& name : names_of_tasks) {
      const bool only = names_of_tasks.size() == 1;
      row["by_task"].push_back(only ? all : figures_json(figures_of(measured, i, name)));
      row["by_task"].back()["task"] = name;
    }
    if (i > 0) row.update(comparison_json(compare_policies(measured, 0, i), graded, clustered));
    if (const json names = i > 0 ? reached_by(measured, i, graded) : json(); !names.is_null())
      row["reached_by"] = names;
    results.push_back(row);
  }
  adjust(measured, "p_value", "p_adjusted", results);
  adjust(measured, "score_p_value", "score_p_adjusted", results);
  return results;
}

}  // namespace

json evaluation_json(const Measurement& measured) {
  json out = {{"split", measured.split},
              {"n", measured.items.size()},
              {"temperature", measured.temperature},
              {"results", results_json(measured)}};
  if (measured.samples > 1) out["samples"] = measured.samples;
  if (const int64_t clusters = count_clusters(measured); clusters < int64_t(measured.items.size()))
    out["clusters"] = clusters;
  for (const EarlierReadings& run : measured.readings)
    out["read_before"].push_back({{"run", run.run}, {"times", run.times}});
  return out;
}

}  // namespace svfleet
