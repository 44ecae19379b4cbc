// What a step counts of a chunk: numbers that add up, chunk by chunk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/finished_chunk.h"
#include "coordinator/training/tally.h"
#include "rl/objective.h"
#include "rl/task.h"

namespace svfleet {

struct ChunkSeconds {
  double generate = 0, base = 0, score = 0, gradient = 0;
  double all() const { return generate + base + score + gradient; }
  void add(const ChunkSeconds& other, double times = 1) {
    generate += times * other.generate, base += times * other.base;
    score += times * other.score, gradient += times * other.gradient;
  }
  void take_away(const ChunkSeconds& other) { add(other, -1); }
};

// Of activations of a gradient at its peak, in one thread: the largest of any chunk.
struct GradientBytes {
  double predicted = 0, counted = 0;
};

// Next-token training's: - log pi of the texts' tokens.
struct TokenLoss {
  double sum = 0, tokens = 0;
  void add(const std::vector<float>& log_probs) {
    for (const float log_prob : log_probs) sum -= double(log_prob);
    tokens += double(log_probs.size());
  }
};

struct ChunkTally {
  int64_t groups = 0, signal_groups = 0, skipped_groups = 0, trained_groups = 0;
  int64_t truncated = 0;
  std::vector<Tally> by_task;  // in order of the tasks, without their names
  double reward_sum = 0, entropy_sum = 0;
  bool kl_measured = false;
  KlEstimates kl;                             // of the policy against the base, over all replies
  double mismatch_sum = 0, mismatch_max = 0;  // |log pi_sample - log pi_train| per trained token
  int64_t mismatch_tokens = 0;
  ChunkSeconds seconds;
  GradientBytes memory;
  TokenLoss loss;
  // Evolution strategies: the mean reward of each member, in their order. NaN of one whose logits
  // were not finite.
  std::vector<double> fitness;

  explicit ChunkTally(size_t tasks = 0) : by_task(tasks) {}
  Tally all() const;                  // of all tasks
  void add(const ChunkTally& other);  // whose members come next
  double mismatch_mean() const { return per(mismatch_sum, mismatch_tokens); }
};

// As two lists of numbers, for the journal and for other ranks.
struct PackedTally {
  std::vector<int64_t> counts;
  std::vector<double> sums;
};
PackedTally pack(const ChunkTally& tally);
// Error(kExitInternal) unless pack() made it.
ChunkTally unpack(const PackedTally& packed);

}  // namespace svfleet
