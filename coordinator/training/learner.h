// What is learnt: parameters, moments and the best so far. No clock, no disk, no ranks: from equal
// sums every rank gets equal bits.
#pragma once

#include <span>
#include <vector>

#include "checkpoints/run_state.h"
#include "comm/exact_sum.h"
#include "coordinator/config/config.h"
#include "coordinator/training/chunk_tally.h"
#include "rl/evolution.h"
#include "svd/core.h"

namespace svfleet {

// What the parameters mean, and how they move.
struct LearningRules {
  Config config;
  AdamWOptions optimizer;  // at the full learning rate
  Core core;
};

// What an optimizer's step was.
struct Update {
  bool finite = true;        // false: nothing has moved
  double gradient_norm = 0;  // of dL/dp, before it is clipped
  double learning_rate = 0;  // 0 without a signal
};

class Learner {
 public:
  Learner(LearningRules rules, RunState start)
      : rules_(std::move(rules)), state_(std::move(start)) {}

  // A step: the exact sum of dL/dz over all chunks, not divided by anything, and what they were.
  // Parameters stay where there was no signal, and where they would leave the finite numbers.
  Update take(ExactTotal total, const ChunkTally& tally);

  // A step by evolution strategies, from the fitness of each member of its population. Nothing
  // moves where all fitness is equal.
  Update take(std::span<const double> fitness);

  // z of members [first, first + count) of this step's population, each [all r].
  std::vector<std::vector<float>> members(int64_t first, int64_t count) const;

  // After a validation: whether this mean score is the best so far.
  bool validated(double score);

  bool finished() const;
  bool too_often_nonfinite() const;
  bool validation_is_due() const;
  bool checkpoint_is_due() const;

  const RunState& state() const { return state_; }
  std::vector<float> z() const { return z_of(state_); }  // the core's coefficients
  std::vector<float> z_of(const RunState& state) const;

 private:
  Update update(std::vector<double>& sum, int64_t counted);
  Update move(std::vector<float> gradient);  // of L by p
  void end_step(const Update& update);
  Perturbation perturbation() const;  // of this step

  const LearningRules rules_;
  RunState state_;
};

}  // namespace svfleet
