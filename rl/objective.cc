#include "rl/objective.h"

#include <cmath>

#include "comm/error.h"

namespace svfleet {

GroupObjective group_objective(const ObjectiveOptions& options,
                               std::span<const SampleOutcome> samples) {
  SVFLEET_CHECK(options.token_length >= 0, options.token_length);
  const size_t n = samples.size();
  GroupObjective group;
  group.rewards.assign(n, 0);
  group.advantages.assign(n, 0);
  group.weights.assign(n, 0);
  group.counts.assign(n, true);

  const double beta = options.kl_in_reward ? options.kl_beta : 0;
  std::vector<double> counted;  // rewards of the samples that count: the baseline sees no others
  for (size_t k = 0; k < n; ++k) {
    const SampleOutcome& sample = samples[k];
    double score = sample.score;
    SVFLEET_CHECK(score >= 0 && score <= 1, "score ", score);
    if (!sample.ended) {
      ++group.truncated;
      if (options.truncated == TruncatedRule::kWrong) score = 0;
      if (options.truncated == TruncatedRule::kMask) {
        group.counts[k] = false;
        continue;
      }
    }
    group.rewards[k] = options.reward_wrong +
                       (options.reward_right - options.reward_wrong) * score - beta * sample.kl;
    group.score_sum += score;
    group.tokens += sample.tokens;
    ++group.counted;
    counted.push_back(group.rewards[k]);
  }

  const std::vector<double> from_counted = advantages(options.baseline, counted);
  const double length = options.token_length > 0 ? options.token_length : 1;
  size_t next = 0;
  for (size_t k = 0; k < n; ++k) {
    if (!group.counts[k]) continue;
    group.advantages[k] = from_counted[next++];
    group.weights[k] = group.advantages[k] / length;
  }
  group.has_signal = has_signal(group.advantages);
  group.skipped = !group.has_signal && options.kl_beta == 0;
  return group;
}

KlEstimates kl_estimates(std::span<const float> logp_policy, std::span<const float> logp_base) {
  SVFLEET_CHECK(logp_policy.size() == logp_base.size(), logp_policy.size(), " and ",
                logp_base.size(), " tokens");
  KlEstimates sum;
  for (size_t t = 0; t < logp_policy.size(); ++t) {
    const double d = static_cast<double>(logp_policy[t]) - logp_base[t];
    sum.k1 += d;
    sum.k2 += d * d / 2;
    sum.k3 += std::expm1(-d) + d;
  }
  return sum;
}

}  // namespace svfleet
