// The members of a population (rl/evolution.h) as policies beside each other, and how fit they are.
#pragma once

#include <vector>

#include "coordinator/training/chunk.h"
#include "coordinator/training/policy.h"
#include "rl/objective.h"

namespace svfleet {

// The policy with, instead of its own z, those of members of its population in the table, from
// entry kOnlyExpert on; in activation form. Its hash and receipt are the policy's.
Policy with_members(const Base& base, const Policy& policy,
                    const std::vector<std::vector<float>>& members);

// These prompts for each of the members [first, first + count), which are entries from kOnlyExpert
// on.
std::vector<ChunkPrompt> for_members(const std::vector<ChunkPrompt>& prompts, int64_t first,
                                     int64_t count);

// A member's replies to a prompt: their rewards count, each by itself, and nothing is
// differentiated.
GroupObjective rewards_alone(ObjectiveOptions options, const std::vector<SampleOutcome>& outcomes);

// The mean reward of each member over its replies that count; `wrong` where none does, NaN where
// some group of its is not finite. `prompts`: members one behind the other, each with all of its
// prompts; by prompt `groups` and `finite`.
std::vector<double> fitness_of(const std::vector<ChunkPrompt>& prompts,
                               const std::vector<GroupObjective>& groups,
                               const std::vector<bool>& finite, double wrong);

}  // namespace svfleet
