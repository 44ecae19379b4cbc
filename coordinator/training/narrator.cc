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

Narrator::Narrator(const Config& config, const std::vector<ExpertPlan>& experts, const Crew& crew,
                   To to)
    : config_(config),
      experts_(experts),
      to_(to),
      tells_(to.log != nullptr),
      slots_(crew.slots()),
      stragglers_(crew.hosts()),
      seen_(experts.size()) {
  for (const ExpertPlan& expert : experts) {
    steps_ = std::max(steps_, expert.config.train.steps);
    pieces_ = std::max(pieces_, expert.plan.chunks_per_step);
  }
  if (tells_) scribe_.emplace();
}

void Narrator::begin(int64_t step) {
  progress_.emplace(ProgressOptions{.label = "train",
                                    .unit = "chunks",
                                    .total = steps_ * pieces_,
                                    .before = step * pieces_,
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

void Narrator::restored(int64_t step, const std::vector<FinishedChunk>& chunks, int64_t pieces,
                        int64_t per_step) {
  restored_ = pieces;
  pieces_now_ = per_step;
  restored_s_ = {};
  for (const FinishedChunk& chunk : chunks)
    restored_s_.add(unpack({chunk.counts, chunk.sums}).seconds);
  if (!tells_ || chunks.empty()) return;
  spdlog::info("step {}: {} finished chunk{} restored", step, chunks.size(),
               chunks.size() == 1 ? "" : "s");
  scribe_->post([this, step, count = int64_t(chunks.size()), seconds = restored_s_] {
    to_.ledger->restored(step, count, spent_on(seconds, 1));
  });
}

void Narrator::handing_out(double load_s) {
  if (!tells_ || handed_out_.exchange(true)) return;
  scribe_->post([this, load_s, now = wall_clock_s()] { to_.ledger->first_chunk(load_s, now); });
}

void Narrator::at_work(int64_t step, const ShareReport& now) {
  const int64_t finished = restored_ + now.finished;
  progress_->update(step * pieces_ + finished, note_);
  to_.pulse->at(step, steps_, finished, pieces_now_);
  to_.pulse->out(now.out);
  for (const std::string& line : stragglers_.while_out(now.out, longest_held_s_))
    spdlog::warn("step {}: {}", step, line);
}

void Narrator::validated(const std::string& expert, const RunState& state,
                         const Evaluation& evaluation) {
  if (!tells_) return;
  scribe_->post([this, expert, step = state.step, record = validation_record(state, evaluation)] {
    to_.log->evaluation(step, "validation", record, expert);
  });
}

void Narrator::stepped(int64_t step, const std::vector<Stepped>& experts, const Basis& basis) {
  if (!tells_) return;
  account(step, experts);
  note_.clear();
  for (const auto& [plan, learner, policy, record] : experts) {
    scribe_->post([this, step, name = plan.name, fields = record.to_json(learner.state(), policy),
                   z = z_statistics(policy, basis), last = learner.finished(),
                   texts = record.texts] {
      to_.log->step(step, fields, z, last, name);
      for (const json& text : texts) to_.log->rollout(step, text, name);
    });
    note_ += plan.name.empty()
                 ? record.line()
                 : (note_.empty() ? "" : "; ") + plan.name + " " + record.short_line();
  }
  for (const Stepped& expert : experts) warn_after(expert);
}

void Narrator::account(int64_t step, const std::vector<Stepped>& experts) {
  ChunkSeconds computed_now;
  std::vector<int> chunks_by_rank(experts.front().record.chunks_by_rank.size());
  std::vector<double> chunk_s_by_rank(chunks_by_rank.size());
  for (const Stepped& expert : experts) {
    const StepRecord& record = expert.record;
    computed_now.add(record.tally.seconds);
    for (size_t rank = 0; rank < chunks_by_rank.size(); ++rank) {
      chunks_by_rank[rank] += record.chunks_by_rank[rank];
      chunk_s_by_rank[rank] += record.chunk_s_by_rank[rank];
    }
  }
  computed_now.take_away(restored_s_);
  std::map<std::string, double> parts = spent_on(computed_now, slots_);
  const std::map<std::string, double>& seconds = experts.front().record.seconds;
  for (const auto& [on, phase] : {std::pair{"merging", "merge"}, std::pair{"reduction", "reduce"},
                                  std::pair{"evaluating", "validate"}, std::pair{"saving", "save"}})
    if (const auto found = seconds.find(phase); found != seconds.end()) parts[on] += found->second;
  scribe_->post(
      [this, parts, step, now = wall_clock_s()] { to_.ledger->spent(parts, "idle", step, now); });
  // Of the piece, which several experts have in common.
  longest_held_s_ = std::max(longest_held_s_, experts.front().record.handled.longest_held_s);
  for (const std::string& line : stragglers_.after_step(chunks_by_rank, chunk_s_by_rank))
    spdlog::warn("step {}: {}", step, line);
}

void Narrator::finished(const std::vector<const RunState*>& states,
                        const std::map<std::string, double>& seconds) {
  progress_->finish();
  if (!tells_) return;
  for (size_t e = 0; e < states.size(); ++e) {
    const RunState& state = *states[e];
    json fields = {{"step", state.step},
                   {"reason", stopped_early(state, experts_[e].config) ? "early_stop" : "finished"},
                   {"best_step", state.best_step},
                   {"best_score", state.best_step < 0 ? json() : json(state.best_score)},
                   {"seconds", seconds}};  // saving comes after a step's record: of the last one
    if (!experts_[e].name.empty()) fields["expert"] = experts_[e].name;
    event("finish", fields);
    warn_at_end(experts_[e], state);
  }
}

void Narrator::settle(double most_s) {
  if (scribe_ && !scribe_->settle(most_s))
    throw make_error(kExitRequeue, "log.jsonl and ledger.jsonl of the run in '", config_.run_dir,
                     "' have not been written for ", most_s,
                     " s: the disk does not answer; nothing later than them was saved");
}

void Narrator::warn_after(const Stepped& expert) {
  const StepRecord& record = expert.record;
  const RunState& state = expert.learner.state();
  const std::string where = "step " + std::to_string(state.step) +
                            (expert.plan.name.empty() ? "" : ", " + expert.plan.name);
  const bool exact = config_.model.device == "cpu";
  if (exact ? record.tally.mismatch_max > 0 : record.tally.mismatch_mean() > kMismatchWarning)
    spdlog::warn(
        "{}: sampling and gradient disagree by {:.3g} per token on average, {:.3g} at most{}",
        where, record.tally.mismatch_mean(), record.tally.mismatch_max,
        exact ? ", which are one computation here: please report it" : "");
  if (!record.update.finite)
    spdlog::warn("{}: the gradient is not finite: step skipped ({} in a row)", where,
                 state.nonfinite_in_a_row);
  Seen& so_far = seen(expert.plan);
  so_far.steps_without_signal =
      record.tally.trained_groups > 0 ? 0 : so_far.steps_without_signal + 1;
  const Tally all = record.tally.all();
  so_far.replies += all.replies;
  so_far.cut += all.replies - all.ended;
  if (so_far.steps_without_signal == kLasting)
    spdlog::warn(
        "{}: {} steps in a row had no signal, so nothing is learnt: all {} "
        "have the same reward; look at rollouts.jsonl, and at the task's rewards and length{}",
        where, kLasting,
        config_.train.evolves() ? "members of the population" : "replies to a prompt",
        cut_by_the_limit(expert.plan));
}

std::string Narrator::cut_by_the_limit(const ExpertPlan& expert) const {
  const auto counts_nothing = [](const TaskSpec& task) {
    return task.truncated != TruncatedRule::kScore;
  };
  const auto& [ignored, replies, cut] = seen(expert);
  const std::vector<TaskSpec>& tasks = expert.config.tasks;
  if (double(cut) < kNearlyAll * double(replies) || cut == 0 ||
      std::none_of(tasks.begin(), tasks.end(), counts_nothing))
    return "";
  std::string limits;
  for (const TaskSpec& task : tasks)
    limits += (limits.empty() ? "" : ", ") + std::to_string(task.max_new_tokens);
  return "; " + std::to_string(100 * cut / replies) + " % of the replies were cut by the length " +
         "limit (max_new_tokens " + limits +
         ") and so count as wrong or not at all: raise it, or see why replies do not end";
}

void Narrator::warn_at_end(const ExpertPlan& expert, const RunState& state) const {
  const auto parent = lineage(state.parent);
  const std::string start = parent                 ? "the parent's state"
                            : state.parent.empty() ? "the base model"
                                                   : "the expert of train.init_from";
  const int64_t first = parent ? parent->step : 0;
  const std::string whose = expert.name.empty() ? "" : expert.name + ": ";
  if (!parent && state.updates == 0 && state.nonfinite_total == 0 && state.step > 0)
    spdlog::warn(
        "{}no step had a signal, nothing was learnt: the expert is {}; let svfleet evaluate show "
        "what the rewards give its replies{}",
        whose, start, cut_by_the_limit(expert));
  else if (state.best_step == first)
    spdlog::warn(
        "{}nothing that was learnt is better in validation: experts/{}best is {} (score {:.3f})",
        whose, expert.name.empty() ? "" : expert.name + "/", start, state.best_score);
}

}  // namespace svfleet
