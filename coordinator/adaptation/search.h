// The few-shot strategy: the mixture of base and experts that answers k solved examples best, by
// the cross-entropy method (rl/cross_entropy.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/adaptation/cost.h"
#include "coordinator/base/base.h"
#include "coordinator/training/evaluation.h"
#include "rl/cross_entropy.h"

namespace svfleet {

struct MixtureSearch {
  Shares shares;              // of the experts, in their order
  Fitness mixture, base;      // score: mean over shots; tie: mean log-likelihood of their answers
  std::vector<Fitness> each;  // of each expert alone
  int generations = 0;
  int64_t candidates = 0;  // that were drawn
  int64_t measured = 0;    // of these, that were not measured before
  std::string ended;       // as CrossEntropy::ended
  Cost cost;
};

// Budgets: 960 candidates and a thirtieth of it.
CrossEntropyOptions full_budget(int experts, double most, uint64_t seed);
CrossEntropyOptions light_budget(int experts, double most, uint64_t seed);

// Collective, the same on every rank whatever their number. `experts`: z of each [all r].
// Candidates answer every shot with the same keyed uniforms, each row of a batch by an entry of its
// own, in activation form. Nothing when a stop was asked for; nothing is kept then: the same search
// again ends at the same mixture.
std::optional<MixtureSearch> search_mixture(const Base& base, Crew& crew,
                                            const std::vector<std::vector<float>>& experts,
                                            const Task& shots, const CrossEntropyOptions& search,
                                            const EvaluationOptions& options);

// z of a mixture [all r]: 1 + sum share (z_k - 1), rounded once.
std::vector<float> mixed_z(const Base& base, const std::vector<std::vector<float>>& experts,
                           const Shares& shares);

}  // namespace svfleet
