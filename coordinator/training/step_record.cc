#include "coordinator/training/step_record.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

// JSON has no NaN: it was written as null.
double number(const json& value) {
  return value.is_null() ? std::nan("") : value.get<double>();
}

// `scores` are before the task's rule on cut replies, `score_sum` is after it.
void add_group(const json& group, TruncatedRule rule, Tally& tally) {
  const json &scores = group.at("scores"), &ended = group.at("ended");
  for (size_t s = 0; s < scores.size(); ++s) {
    ++tally.replies;
    tally.ended += ended.at(s).get<bool>();
    tally.tokens += group.at("tokens").at(s).get<int64_t>();
    const bool as_it_is = ended.at(s).get<bool>() || rule == TruncatedRule::kScore;
    tally.right += as_it_is && is_right(number(scores.at(s)));
  }
  tally.counted += group.at("counted").get<int64_t>();
  tally.score_sum += number(group.at("score_sum"));
}

void add_chunk(const json& summary, const TrainingPlan& plan, StepRecord& record) {
  for (const json& group : summary.at("groups")) {
    ++record.groups;
    record.signal_groups += group.at("signal").get<bool>();
    (group.at("skipped").get<bool>() ? record.skipped_groups : record.trained_groups)++;
    record.truncated += group.at("truncated").get<int64_t>();
    for (const json& reward : group.at("rewards")) record.reward_sum += number(reward);
    const auto task = group.at("task").get<size_t>();
    const TruncatedRule rule = plan.tasks.at(task).spec.truncated;
    add_group(group, rule, record.all);
    add_group(group, rule, record.by_task.at(task));
  }
  record.entropy_sum += number(summary.at("entropy"));
  if (const json& kl = summary.at("kl"); !kl.is_null()) {
    record.kl_measured = true;
    record.kl1 += number(kl.at("k1"));
    record.kl2 += number(kl.at("k2"));
    record.kl3 += number(kl.at("k3"));
  }
  const json& mismatch = summary.at("mismatch");
  record.mismatch_sum += number(mismatch.at("sum"));
  record.mismatch_max = std::max(record.mismatch_max, number(mismatch.at("max")));
  record.mismatch_tokens += mismatch.at("tokens").get<int64_t>();
  for (const auto& [phase, seconds] : summary.at("seconds").items())
    record.chunk_seconds[phase] += seconds.get<double>();
  for (const json& text : summary.at("texts")) record.texts.push_back(text);
}

json with_tasks(const Tally& all, const std::vector<Tally>& by_task) {
  json out = to_json(all);
  for (const Tally& one : by_task) {
    json task = to_json(one);
    if (one.replies == 0)  // none of its prompts: not nought
      for (const char* key : {"accuracy", "score", "ended_fraction", "mean_tokens"})
        task[key] = nullptr;
    out["by_task"].push_back(std::move(task));
  }
  return out;
}

}  // namespace

StepRecord gather_record(Crew& crew, const std::vector<FinishedChunk>& own, int64_t restored,
                         const TrainingPlan& plan) {
  json mine = json::array();
  for (const FinishedChunk& chunk : own)
    mine.push_back({chunk.chunk, chunk.summary, int64_t(mine.size()) < restored});
  std::vector<std::string> parts = crew.group().gather(mine.dump(), "gather step");
  json all = json::array();
  for (size_t rank = 0; rank < parts.size(); ++rank)
    for (const json& row : json::parse(parts[rank])) all.push_back({row[0], row[1], row[2], rank});
  std::string bytes = all.dump();
  crew.group().broadcast(bytes, 0, "broadcast step");
  all = json::parse(bytes);
  std::sort(all.begin(), all.end(),
            [](const json& a, const json& b) { return a[0].get<int>() < b[0].get<int>(); });
  SVFLEET_CHECK(int64_t(all.size()) == plan.chunks_per_step, all.size(), " chunks of ",
                plan.chunks_per_step);
  StepRecord record;
  for (const Task& task : plan.tasks) record.by_task.emplace_back().task = task.spec.name;
  record.chunks_by_rank.assign(crew.ranks(), 0);
  record.chunk_s_by_rank.assign(crew.ranks(), 0);
  for (int c = 0; c < int(all.size()); ++c) {
    SVFLEET_CHECK(all[c][0].get<int>() == c, "chunk ", c, " is missing or there twice");
    const json summary = json::parse(all[c][1].get<std::string>());
    add_chunk(summary, plan, record);
    if (all[c][2].get<bool>()) {
      ++record.restored_chunks;
      continue;
    }
    double seconds = 0;
    for (const auto& [phase, s] : summary.at("seconds").items()) seconds += s.get<double>();
    const auto rank = all[c][3].get<size_t>();
    ++record.chunks_by_rank[rank];
    record.chunk_s_by_rank[rank] += seconds;
    record.longest_chunk_s = std::max(record.longest_chunk_s, seconds);
  }
  return record;
}

json z_statistics(const Policy& policy, const Model& model) {
  json z = json::object();
  for (const Target& target : model.targets()) {
    const float* values = policy.z.data() + target.offset;
    double sum = 0, squares = 0, low = values[0], high = values[0];
    for (int64_t i = 0; i < target.length(); ++i) {
      const double x = values[i];
      sum += x, squares += x * x;
      low = std::min(low, x), high = std::max(high, x);
    }
    const double n = double(target.length()), mean = sum / n;
    z[target.name] = {{"mean", mean},
                      {"min", low},
                      {"max", high},
                      {"std", std::sqrt(std::max(0.0, squares / n - mean * mean))}};
  }
  return z;
}

json StepRecord::to_json(const RunState& state, const Policy& policy) const {
  double largest = 0;
  for (const float z : policy.z) largest = std::max(largest, std::abs(double(z) - 1));
  json times = seconds;
  for (const auto& [phase, s] : chunk_seconds) times[phase] = s;
  json out = {{"position", state.position},
              {"reward", per(reward_sum, all.counted)},
              {"signal_fraction", per(double(signal_groups), groups)},
              {"groups", groups},
              {"skipped_groups", skipped_groups},
              {"replies", all.replies},
              {"counted", all.counted},
              {"truncated", truncated},
              {"entropy", per(entropy_sum, all.tokens)},
              {"gradient_norm", gradient_norm},
              {"learning_rate", learning_rate},
              {"updates", state.updates},
              {"finite", finite},
              {"nonfinite_total", state.nonfinite_total},
              {"log_prob_mismatch", {{"mean", mismatch_mean()}, {"max", mismatch_max}}},
              {"merged_weights_changed", policy.changed_share},
              {"largest_z_move", largest},
              {"tokens_per_s", wall_s > 0 ? double(all.tokens) / wall_s : 0},
              {"wall_s", wall_s},
              {"seconds", times},
              {"restored_chunks", restored_chunks},
              {"chunks_by_rank", chunks_by_rank},
              {"chunk_s_by_rank", chunk_s_by_rank},
              {"longest_chunk_s", longest_chunk_s},
              {"z_hash", policy.hash},
              {"state_hash", state_hash(state)}};
  out.update(with_tasks(all, by_task));
  if (kl_measured)
    out["kl"] = {{"k1", per(kl1, all.replies)},
                 {"k2", per(kl2, all.replies)},
                 {"k3", per(kl3, all.replies)}};
  return out;
}

double StepRecord::mismatch_mean() const {
  return per(mismatch_sum, mismatch_tokens);
}

std::string StepRecord::line() const {
  char text[200];
  std::snprintf(text, sizeof text,
                "accuracy %.2f, score %.2f, signal %.2f, ended %.2f, tokens %.1f, |g| %.3g%s",
                all.accuracy(), all.score(), per(double(signal_groups), groups), all.ended_share(),
                all.mean_tokens(), gradient_norm,
                finite ? "" : ", gradient NOT FINITE: step skipped");
  return text;
}

json validation_record(const RunState& state, const Evaluation& evaluation) {
  const Interval interval = wilson(evaluation.all.right, evaluation.all.counted);
  json out = with_tasks(evaluation.all, evaluation.by_task);
  out.update({{"n", evaluation.all.counted},
              {"low", interval.low},
              {"high", interval.high},
              {"best_step", state.best_step},
              {"best_score", state.best_score}});
  return out;
}

}  // namespace svfleet
