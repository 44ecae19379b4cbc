// What a person should know of a training run while it goes on, and at its end.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "coordinator/training/fork.h"
#include "coordinator/training/trainer.h"

namespace svfleet {
namespace {

// |log pi_sample - log pi_train| per token; bfloat16 forms differ by about 0.03.
constexpr double kMismatchWarning = 0.1;

// Steps in a row after which something that may pass by is told.
constexpr int64_t kLasting = 5;

// What cannot be changed within a run.
constexpr char kElsewhere[] = "in a new run_dir or a child run (--fork)";

// Merging smaller moves than this into bfloat16 loses most of them (DESIGN section 2, measured).
constexpr double kSmallMove = 5e-3;

}  // namespace

void Trainer::warn_after(const StepRecord& record) {
  if (record.tally.mismatch_mean() > kMismatchWarning)
    spdlog::warn(
        "step {}: sampling and gradient disagree by {:.3f} per token on average; "
        "use train.sampling_form: activation, or model.dtype: float32, {}",
        state.step, record.tally.mismatch_mean(), kElsewhere);
  if (!record.finite)
    spdlog::warn("step {}: the gradient is not finite: step skipped ({} in a row)", state.step,
                 state.nonfinite_in_a_row);
  steps_without_signal = record.tally.trained_groups > 0 ? 0 : steps_without_signal + 1;
  if (steps_without_signal == kLasting)
    spdlog::warn(
        "step {}: {} steps in a row had no signal, so nothing is learnt: all replies to a prompt "
        "have the same reward; look at rollouts.jsonl, and at the task's rewards and length",
        state.step, kLasting);
  warn_of_small_moves();
}

void Trainer::warn_of_small_moves() {
  double largest = 0;
  for (float value : policy.z) largest = std::max(largest, std::abs(double(value) - 1));
  const bool small = config.model.dtype == "bfloat16" && policy.sampling == Apply::kMerged &&
                     largest > 0 && largest < kSmallMove;
  // The first steps of every run are small.
  steps_of_small_moves = small ? steps_of_small_moves + 1 : 0;
  if (steps_of_small_moves != kLasting) return;
  spdlog::warn(
      "step {}: z has moved by at most {:.1e}, and merged bfloat16 weights lose moves below 5e-3 "
      "({:.0f} % of the weights changed); use train.sampling_form: activation, {}",
      state.step, largest, 100 * policy.changed_share, kElsewhere);
}

void Trainer::warn_at_end() const {
  const auto parent = lineage(state.parent);
  const std::string start = parent                 ? "the parent's state"
                            : state.parent.empty() ? "the base model"
                                                   : "the expert of train.init_from";
  const int64_t first = parent ? parent->step : 0;
  if (!parent && state.updates == 0 && state.nonfinite_total == 0 && state.step > 0)
    spdlog::warn(
        "no step had a signal, nothing was learnt: the expert is {}; let svfleet evaluate show "
        "what the rewards give its replies",
        start);
  else if (state.best_step == first)
    spdlog::warn(
        "nothing that was learnt is better in validation: experts/best is {} (score {:.3f})", start,
        state.best_score);
}

}  // namespace svfleet
