// The objective of one group (a prompt with all its samples), as weights of log-probabilities.
//
// With score s_k in [0, 1] and d_kt = log pi - log pi_base of the sampled token t of sample k:
//   r_k = wrong + (right - wrong) s_k - beta * sum_t d_kt     the KL term where it is in the reward
//   A   = advantages(baseline, r)                             over the samples that count
//   w_k = A_k / length                                        length = 1 for the sum over tokens
//   L   = - sum_k w_k sum_t log pi(token t of sample k)
// L is not yet divided by the number of samples of the step: that enters after the exact sum
// (the numbers r, A and w are constants in L; no gradient flows through them). Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rl/advantage.h"
#include "rl/task.h"

namespace svfleet {

struct ObjectiveOptions {
  Baseline baseline = Baseline::kLeaveOneOut;
  double reward_right = 1, reward_wrong = -1;
  TruncatedRule truncated = TruncatedRule::kWrong;
  double token_length = 0;  // 0: token log-probs are summed; else divided by this length
  double kl_beta = 0;
  bool kl_in_reward = true;  // false: the KL penalty is a loss of its own, added elsewhere
};

struct SampleOutcome {
  double score = 0;    // of the reply, in [0, 1]
  int64_t tokens = 0;  // trained on: those sampled, the end-of-sequence token included
  double kl = 0;       // sum over them of log pi - log pi_base; 0 where not computed
  bool ended = true;   // by itself, not by the length limit
};

struct GroupObjective {
  std::vector<double> rewards;     // [samples], 0 where masked
  std::vector<double> advantages;  // [samples], 0 where masked
  std::vector<double> weights;     // [samples], what multiplies each token's log-prob in -L
  std::vector<bool> counts;        // [samples], false where masked
  bool has_signal = false;         // some advantage is not zero
  bool skipped = false;            // no forward or backward pass is needed: no signal and no KL
  int64_t counted = 0;             // samples that count
  int64_t tokens = 0;              // of the samples that count
  int64_t truncated = 0;           // samples cut by the length limit
  double score_sum = 0;            // over the samples that count, truncated ones by the rule
};

GroupObjective group_objective(const ObjectiveOptions& options,
                               std::span<const SampleOutcome> samples);

// Estimates of KL(policy || base) from tokens sampled by the policy (Schulman 2020), summed over
// the tokens: with d = log pi - log pi_base, k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. For the
// log; as an on-policy loss k1 has gradient zero and k3 that of the other KL.
struct KlEstimates {
  double k1 = 0, k2 = 0, k3 = 0;
};
KlEstimates kl_estimates(std::span<const float> logp_policy, std::span<const float> logp_base);

}  // namespace svfleet
