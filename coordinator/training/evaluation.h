// How good a policy is on a split: replies to every item, shared over all ranks in
// fixed batches.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/training/measurement.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/tally.h"
#include "rl/task.h"

namespace svfleet {

struct Evaluation {
  Tally all;
  std::vector<Tally> by_task;       // in order of the tasks
  std::vector<ItemResult> replies;  // rank 0 only; by task, item and sample
};

struct EvaluationOptions {
  SamplingOptions sampling;
  int64_t batch = 32;   // items generated together
  int64_t samples = 1;  // of each item
  // Of the policy's table, by item in the order of the tasks; empty: the policy's own, for all.
  std::vector<int> entries = {};
};

// As `evaluate:` in the configuration says.
EvaluationOptions evaluation_options(const Config& config);

// What is asked, in the order of the replies.
std::vector<MeasuredItem> measured_items(const std::vector<Task>& tasks);

// Collective. Every rank gets the counts, rank 0 the replies too. Nothing when a stop was asked
// for.
std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name);

}  // namespace svfleet
