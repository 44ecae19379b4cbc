#include "coordinator/training/best.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/counted.h"

namespace svfleet {
namespace {

std::string score_text(double score) {
  char text[40];
  std::snprintf(text, sizeof text, "%.3f", score);
  return text;
}

// " in 'FILE' and 'FILE'", or nothing where that is not known.
std::string in_files(const std::string& before, const std::string& now, const Config& config) {
  using nlohmann::json;
  const json one = json::parse(before, nullptr, false), other = json::parse(now, nullptr, false);
  if (!one.is_object() || !other.is_object()) return "";
  const json was = one.value("data", json()), is = other.value("data", json());
  if (was.size() != is.size() || is.size() != config.tasks.size()) return "";
  std::string files;
  for (size_t i = 0; i < is.size(); ++i)
    if (was[i] != is[i])
      files += (files.empty() ? " in '" : " and '") + config.tasks[i].validation + "'";
  return files;
}

}  // namespace

std::string forget_other_best(const std::string& validated_on, const Config& config,
                              RunState& state) {
  if (validated_on.empty() || state.step >= config.train.steps) return "";
  const std::string before = state.validation;
  state.validation = validated_on;
  if (state.best_step < 0 || before == validated_on) return "";
  std::string why =
      "the validation items" + in_files(before, validated_on, config) + " have changed since";
  if (before.empty()) {  // made when replies that all rewards call right were counted
    const auto several = [](const TaskSpec& task) { return task.rewards.size() > 1; };
    if (std::none_of(config.tasks.begin(), config.tasks.end(), several)) return "";
    why = "it was chosen by the share of right replies, not by their mean score";
  }
  const std::string was = "the best so far, " + score_text(state.best_score) + " after step " +
                          std::to_string(state.best_step) + ", counts no longer: " + why;
  state.best_score = -1;
  state.best_step = -1;
  state.validations_since_best = 0;
  return was;
}

bool stopped_early(const RunState& state, const Config& config) {
  const int64_t patience = config.train.early_stop_after;
  return state.step < config.train.steps && patience > 0 &&
         state.validations_since_best >= patience;
}

bool is_finished(const RunState& state, const Config& config) {
  if (!state.experts.empty()) {
    const std::vector<Config> runs = runs_of_one(config);
    for (size_t e = 0; e < runs.size(); ++e)
      if (!is_finished(state.experts.at(e).state, runs[e])) return false;
    return true;
  }
  return state.step >= config.train.steps || stopped_early(state, config);
}

std::string how_it_finished(const RunState& state, const Config& config) {
  if (!state.experts.empty()) {
    std::string early;
    const std::vector<Config> runs = runs_of_one(config);
    for (size_t e = 0; e < runs.size(); ++e)
      if (stopped_early(state.experts.at(e).state, runs[e]))
        early += (early.empty() ? "; " : ", ") + state.experts[e].name + ": " +
                 how_it_finished(state.experts[e].state, runs[e]);
    return "finished" + early;
  }
  if (!stopped_early(state, config)) return "finished";
  return "early_stop after " + std::to_string(state.step) + " of " +
         counted(config.train.steps, "step") + ", best score " + score_text(state.best_score) +
         " after step " + std::to_string(state.best_step);
}

std::string last_words(const RunState& state, const Config& config, bool already,
                       const std::string& expert) {
  const std::string steps = counted(state.step, "step");
  if (!state.experts.empty())
    return std::string(already ? "already " : "") + how_it_finished(state, config) + " after " +
           steps + ", " + counted(int64_t(state.experts.size()), "expert") + ": " + expert;
  if (!stopped_early(state, config))
    return (already ? "already finished after " : "finished after ") + steps + ": " + expert;
  return (already ? "already finished, " : "finished, ") + how_it_finished(state, config) + ": " +
         expert + " (train.early_stop_after: " + std::to_string(config.train.early_stop_after) +
         " holds it there; with 0 it goes on)";
}

}  // namespace svfleet
