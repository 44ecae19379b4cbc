#include "coordinator/training/step_record.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comm/error.h"
#include "rl/evolution.h"
#include "rl/intervals.h"

namespace svfleet {
namespace {

using nlohmann::json;

json seconds_of(const ChunkSeconds& seconds) {
  json out = {
      {"generate", seconds.generate}, {"score", seconds.score}, {"gradient", seconds.gradient}};
  if (seconds.base > 0) out["base"] = seconds.base;
  return out;
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

json population_of(const FitnessSummary& fitness) {
  return {{"mean", fitness.mean}, {"min", fitness.min},   {"max", fitness.max},
          {"std", fitness.std},   {"best", fitness.best}, {"pairs_apart", fitness.apart}};
}

// What has a gradient of its own in a population, and so counts as a group, is a pair.
void count_pairs(ChunkTally& tally) {
  tally.groups = int64_t(tally.fitness.size()) / 2;
  tally.trained_groups = tally.signal_groups = summary_of(tally.fitness).apart;
  tally.skipped_groups = tally.groups - tally.trained_groups;
}

std::string to_bytes(const json& value) {
  std::string bytes;
  json::to_cbor(value, bytes);
  return bytes;
}

}  // namespace

StepRecord gather_record(Crew& crew, const std::vector<FinishedChunk>& own, int64_t restored,
                         const Handled& handled, const TrainingPlan& plan) {
  json mine = json::array();
  for (const FinishedChunk& chunk : own) {
    mine.push_back({chunk.chunk, chunk.counts, chunk.sums, chunk.texts,
                    int64_t(mine.size()) < restored, crew.group().rank()});
  }
  // CBOR, not text: not-a-numbers stay what they are.
  json parts = json::array();
  const json here = {mine, handled.most_in_flight, handled.longest_held_s};
  for (const std::string& part : crew.group().gather(to_bytes(here), "gather step"))
    parts.push_back(json::from_cbor(part));
  std::string bytes = to_bytes(parts);
  crew.group().broadcast(bytes, 0, "broadcast step");
  json all = json::array();
  Handled most;
  for (json& part : parts = json::from_cbor(bytes)) {
    for (json& row : part[0]) all.push_back(std::move(row));
    most.most_in_flight = std::max(most.most_in_flight, part[1].get<int>());
    most.longest_held_s = std::max(most.longest_held_s, part[2].get<double>());
  }
  std::sort(all.begin(), all.end(),
            [](const json& a, const json& b) { return a[0].get<int>() < b[0].get<int>(); });
  SVFLEET_CHECK(int64_t(all.size()) == plan.chunks_per_step, all.size(), " chunks of ",
                plan.chunks_per_step);
  StepRecord record;
  record.handled = most;
  record.tally = ChunkTally(plan.tasks.size());
  for (const Task& task : plan.tasks) record.tasks.push_back(task.spec.name);
  record.chunks_by_rank.assign(crew.ranks(), 0);
  record.chunk_s_by_rank.assign(crew.ranks(), 0);
  for (int c = 0; c < int(all.size()); ++c) {
    const json& row = all[c];
    SVFLEET_CHECK(row[0].get<int>() == c, "chunk ", c, " is missing or there twice");
    const ChunkTally tally = unpack({row[1], row[2]});
    record.tally.add(tally);
    // Each chunk has an equal share, rounded up.
    for (const json& text : json::parse(row[3].get<std::string>()))
      if (int64_t(record.texts.size()) < plan.rollout_samples) record.texts.push_back(text);
    if (row[4].get<bool>()) {
      ++record.restored_chunks;
      continue;
    }
    const double seconds = tally.seconds.all();
    const auto rank = row[5].get<size_t>();
    ++record.chunks_by_rank[rank];
    record.chunk_s_by_rank[rank] += seconds;
    record.longest_chunk_s = std::max(record.longest_chunk_s, seconds);
  }
  if (!record.tally.fitness.empty()) count_pairs(record.tally);
  return record;
}

json z_statistics(const Policy& policy, const Basis& basis) {
  json z = json::object();
  for (size_t t = 0; t < basis.targets().size(); ++t) {
    const Core::Part part = basis.core().part(t);
    const float* values = policy.z.data() + part.offset;
    double sum = 0, squares = 0, low = values[0], high = values[0];
    for (int64_t i = 0; i < part.length; ++i) {
      const double x = values[i];
      sum += x, squares += x * x;
      low = std::min(low, x), high = std::max(high, x);
    }
    const double n = double(part.length), mean = sum / n;
    z[basis.targets()[t].name] = {{"mean", mean},
                                  {"min", low},
                                  {"max", high},
                                  {"std", std::sqrt(std::max(0.0, squares / n - mean * mean))}};
  }
  return z;
}

json StepRecord::to_json(const RunState& state, const Policy& policy) const {
  const double at_rest = policy.table->basis().core().at_rest();
  double largest = 0;
  for (const float z : policy.z) largest = std::max(largest, std::abs(double(z) - at_rest));
  json times = seconds;
  times.update(seconds_of(tally.seconds));
  const Tally all = tally.all();
  std::vector<Tally> by_task = tally.by_task;
  for (size_t t = 0; t < by_task.size(); ++t) by_task[t].task = tasks[t];
  json out = {{"position", state.position},
              {"reward", per(tally.reward_sum, all.counted)},
              {"signal_fraction", per(double(tally.signal_groups), tally.groups)},
              {"groups", tally.groups},
              {"skipped_groups", tally.skipped_groups},
              {"replies", all.replies},
              {"counted", all.counted},
              {"truncated", tally.truncated},
              {"entropy", per(tally.entropy_sum, all.tokens)},
              {"gradient_norm", update.gradient_norm},
              {"learning_rate", update.learning_rate},
              {"updates", state.updates},
              {"finite", update.finite},
              {"nonfinite_total", state.nonfinite_total},
              {"log_prob_mismatch", {{"mean", tally.mismatch_mean()}, {"max", tally.mismatch_max}}},
              {"merge_gain", policy.gain},
              {"merged_by_rank", policy.built_by_rank},
              {"gradient_bytes",
               {{"predicted", int64_t(tally.memory.predicted)},
                {"counted", int64_t(tally.memory.counted)}}},
              {"largest_z_move", largest},
              {"tokens_per_s", wall_s > 0 ? double(all.tokens) / wall_s : 0},
              {"wall_s", wall_s},
              {"seconds", times},
              {"restored_chunks", restored_chunks},
              {"chunks_by_rank", chunks_by_rank},
              {"chunk_s_by_rank", chunk_s_by_rank},
              {"longest_chunk_s", longest_chunk_s},
              {"longest_held_s", handled.longest_held_s},
              {"chunks_in_flight", handled.most_in_flight},
              {"z_hash", policy.hash},
              {"state_hash", state_hash(state)}};
  out.update(with_tasks(all, by_task));
  if (!tally.fitness.empty()) out["population"] = population_of(summary_of(tally.fitness));
  if (tally.loss.tokens > 0) out["loss"] = tally.loss.sum / tally.loss.tokens;
  if (tally.kl_measured)
    out["kl"] = {{"k1", per(tally.kl.k1, all.replies)},
                 {"k2", per(tally.kl.k2, all.replies)},
                 {"k3", per(tally.kl.k3, all.replies)}};
  return out;
}

std::string StepRecord::line() const {
  const Tally all = tally.all();
  char text[200];
  if (tally.loss.tokens > 0) {
    std::snprintf(text, sizeof text, "loss %.4f, texts %lld, tokens %.1f, |g| %.3g%s",
                  tally.loss.sum / tally.loss.tokens, static_cast<long long>(all.counted),
                  all.mean_tokens(), update.gradient_norm,
                  update.finite ? "" : ", gradient NOT FINITE: step skipped");
    return text;
  }
  std::snprintf(text, sizeof text,
                "accuracy %.2f, score %.2f, signal %.2f, ended %.2f, tokens %.1f, |g| %.3g%s",
                all.accuracy(), all.score(), per(double(tally.signal_groups), tally.groups),
                all.ended_share(), all.mean_tokens(), update.gradient_norm,
                update.finite ? "" : ", gradient NOT FINITE: step skipped");
  return text;
}

std::string StepRecord::short_line() const {
  char text[40];
  if (tally.loss.tokens > 0)
    std::snprintf(text, sizeof text, "loss %.4f", tally.loss.sum / tally.loss.tokens);
  else
    std::snprintf(text, sizeof text, "%.2f", tally.all().accuracy());
  return text + std::string(update.finite ? "" : " NOT FINITE");
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
