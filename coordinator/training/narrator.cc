#include "coordinator/training/narrator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "coordinator/training/best.h"
#include "coordinator/training/fork.h"

namespace svfleet {
namespace {

using nlohmann::json;

// |log pi_sample - log pi_train| per token: on a CPU the same number, on a GPU a measured one.
constexpr double kMismatchWarning = 0.02;

// Steps in a row after which something that may pass by is told.
constexpr int64_t kLasting = 5;

// Replies that are cut: so many of all, and the length limit is to blame.
constexpr double kNearlyAll = 0.9;

// Seconds of chunks by the names of the ledger, for so many chunks at a time.
std::map<std::string, double> spent_on(const ChunkSeconds& chunks, int64_t slots) {
  return {{"gradient", std::max(0.0, chunks.gradient) / double(slots)},
          {"generating", std::max(0.0, chunks.all() - chunks.gradient) / double(slots)}};
}

}  // namespace

Narrator::Narrator(const Config& config, const TrainingPlan& plan, const Crew& crew, To to)
    : config_(config),
      plan_(plan),
      to_(to),
      tells_(to.log != nullptr),
      slots_(crew.slots()),
      stragglers_(crew.hosts()) {
  if (tells_) scribe_.emplace();
}

void Narrator::begin(int64_t step) {
  progress_.emplace(ProgressOptions{.label = "train",
                                    .unit = "chunks",
                                    .total = config_.train.steps * plan_.chunks_per_step,
                                    .before = step * plan_.chunks_per_step,
                                    .shown = tells_});
}

void Narrator::doing(const char* what) {
  if (tells_) to_.pulse->doing(what);
}

void Narrator::spent(const char* on) {
  if (tells_) scribe_->post([this, on, now = wall_clock_s()] { to_.ledger->spent(on, now); });
}

void Narrator::event(const std::string& name, json fields) {
  if (tells_) scribe_->post([this, name, fields] { to_.log->event(name, fields); });
}

void Narrator::restored(int64_t step, const std::vector<FinishedChunk>& chunks) {
  restored_ = int64_t(chunks.size());
  restored_s_ = {};
  for (const FinishedChunk& chunk : chunks)
    restored_s_.add(unpack({chunk.counts, chunk.sums}).seconds);
  if (!tells_ || chunks.empty()) return;
  spdlog::info("step {}: {} finished chunk{} restored", step, chunks.size(),
               chunks.size() == 1 ? "" : "s");
  scribe_->post([this, step, count = restored_, seconds = restored_s_] {
    to_.ledger->restored(step, count, spent_on(seconds, 1));
  });
}

void Narrator::handing_out(double load_s) {
  if (!tells_ || handed_out_.exchange(true)) return;
  scribe_->post([this, load_s, now = wall_clock_s()] { to_.ledger->first_chunk(load_s, now); });
}

void Narrator::at_work(int64_t step, const ShareReport& now) {
  const int64_t finished = restored_ + now.finished, per_step = plan_.chunks_per_step;
  progress_->update(step * per_step + finished, note_);
  to_.pulse->at(step, config_.train.steps, finished, per_step);
  to_.pulse->out(now.out);
  for (const std::string& line : stragglers_.while_out(now.out, longest_chunk_s_))
    spdlog::warn("step {}: {}", step, line);
}

void Narrator::validated(const RunState& state, const Evaluation& evaluation) {
  if (!tells_) return;
  scribe_->post([this, step = state.step, record = validation_record(state, evaluation)] {
    to_.log->evaluation(step, "validation", record);
  });
}

void Narrator::stepped(const Learner& learner, const Policy& policy, const Basis& basis,
                       const StepRecord& record) {
  if (!tells_) return;
  const RunState& state = learner.state();
  account(state, record);
  scribe_->post([this, step = state.step, fields = record.to_json(state, policy),
                 z = z_statistics(policy, basis), last = learner.finished(), texts = record.texts] {
    to_.log->step(step, fields, z, last);
    for (const json& text : texts) to_.log->rollout(step, text);
  });
  note_ = record.line();
  warn_after(state, record);
}

void Narrator::account(const RunState& state, const StepRecord& record) {
  ChunkSeconds computed_now = record.tally.seconds;
  computed_now.take_away(restored_s_);
  std::map<std::string, double> parts = spent_on(computed_now, slots_);
  for (const auto& [on, phase] : {std::pair{"merging", "merge"}, std::pair{"reduction", "reduce"},
                                  std::pair{"evaluating", "validate"}, std::pair{"saving", "save"}})
    if (const auto found = record.seconds.find(phase); found != record.seconds.end())
      parts[on] += found->second;
  scribe_->post([this, parts, step = state.step, now = wall_clock_s()] {
    to_.ledger->spent(parts, "idle", step, now);
  });
  longest_chunk_s_ = std::max(longest_chunk_s_, record.longest_chunk_s);
  for (const std::string& line :
       stragglers_.after_step(record.chunks_by_rank, record.chunk_s_by_rank))
    spdlog::warn("step {}: {}", state.step, line);
}

void Narrator::finished(const Learner& learner, const std::map<std::string, double>& seconds) {
  progress_->finish();
  if (!tells_) return;
  const RunState& state = learner.state();
  // Saving comes after a step's record: this is what the last one took.
  event("finish", {{"step", state.step},
                   {"reason", stopped_early(state, config_) ? "early_stop" : "finished"},
                   {"best_step", state.best_step},
                   {"best_score", state.best_step < 0 ? json() : json(state.best_score)},
                   {"seconds", seconds}});
  warn_at_end(state);
}

void Narrator::settle(double most_s) {
  if (scribe_ && !scribe_->settle(most_s))
    throw make_error(kExitRequeue, "log.jsonl and ledger.jsonl of the run in '", config_.run_dir,
                     "' have not been written for ", most_s,
                     " s: the disk does not answer; nothing later than them was saved");
}

void Narrator::warn_after(const RunState& state, const StepRecord& record) {
  const bool exact = config_.model.device == "cpu";
  if (exact ? record.tally.mismatch_max > 0 : record.tally.mismatch_mean() > kMismatchWarning)
    spdlog::warn(
        "step {}: sampling and gradient disagree by {:.3g} per token on average, {:.3g} at most{}",
        state.step, record.tally.mismatch_mean(), record.tally.mismatch_max,
        exact ? ", which are one computation here: please report it" : "");
  if (!record.update.finite)
    spdlog::warn("step {}: the gradient is not finite: step skipped ({} in a row)", state.step,
                 state.nonfinite_in_a_row);
  steps_without_signal_ = record.tally.trained_groups > 0 ? 0 : steps_without_signal_ + 1;
  const Tally all = record.tally.all();
  replies_ += all.replies;
  cut_ += all.replies - all.ended;
  if (steps_without_signal_ == kLasting)
    spdlog::warn(
        "step {}: {} steps in a row had no signal, so nothing is learnt: all {} "
        "have the same reward; look at rollouts.jsonl, and at the task's rewards and length{}",
        state.step, kLasting,
        config_.train.evolves() ? "members of the population" : "replies to a prompt",
        cut_by_the_limit());
}

std::string Narrator::cut_by_the_limit() const {
  const auto counts_nothing = [](const TaskSpec& task) {
    return task.truncated != TruncatedRule::kScore;
  };
  if (double(cut_) < kNearlyAll * double(replies_) || cut_ == 0 ||
      std::none_of(config_.tasks.begin(), config_.tasks.end(), counts_nothing))
    return "";
  std::string limits;
  for (const TaskSpec& task : config_.tasks)
    limits += (limits.empty() ? "" : ", ") + std::to_string(task.max_new_tokens);
  return "; " + std::to_string(100 * cut_ / replies_) +
         " % of the replies were cut by the length " + "limit (max_new_tokens " + limits +
         ") and so count as wrong or not at all: raise it, or see why replies do not end";
}

void Narrator::warn_at_end(const RunState& state) const {
  const auto parent = lineage(state.parent);
  const std::string start = parent                 ? "the parent's state"
                            : state.parent.empty() ? "the base model"
                                                   : "the expert of train.init_from";
  const int64_t first = parent ? parent->step : 0;
  if (!parent && state.updates == 0 && state.nonfinite_total == 0 && state.step > 0)
    spdlog::warn(
        "no step had a signal, nothing was learnt: the expert is {}; let svfleet evaluate show "
        "what the rewards give its replies{}",
        start, cut_by_the_limit());
  else if (state.best_step == first)
    spdlog::warn(
        "nothing that was learnt is better in validation: experts/best is {} (score {:.3f})", start,
        state.best_score);
}

}  // namespace svfleet
