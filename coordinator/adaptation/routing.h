// The first pass of the strategies prompt and classifier: which expert of a set a prompt is for, by
// the answer of the model, or of an expert for that, to the set's question.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/adaptation/cost.h"
#include "coordinator/base/base.h"
#include "coordinator/config/expert_set.h"
#include "coordinator/training/policy.h"

namespace svfleet {

struct Routing {
  std::vector<size_t> to;  // by prompt: a member of the set, or members.size(): other
  Cost cost;
};

// Collective: `asked` is who answers the question, always greedily. A prompt's choice depends on it
// alone. `batch`: questions answered together. Nothing when a stop was asked for. Error(kExitUser)
// where a question is longer than the model reads.
std::optional<Routing> route(const Base& base, Crew& crew, const Policy& asked,
                             const ExpertSet& set, const std::vector<std::string>& prompts,
                             int64_t batch);

// Of choices with these log-probabilities, the first of the largest. `without`: those that a prompt
// without content gives, which are taken away; empty: nothing is.
size_t likeliest(const std::vector<double>& log_probs, const std::vector<double>& without);

}  // namespace svfleet
