// How good a policy is on a split: replies to every item, shared over all ranks in fixed batches.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/tally.h"
#include "rl/statistics.h"
#include "rl/task.h"

namespace svfleet {

struct ItemResult {
  double score = 0;  // a cut reply by its task's rule
  bool right = false;
  bool ended = false;  // by itself
  int64_t tokens = 0;
  std::string reply;
};

struct Evaluation {
  std::string name;
  Tally all;
  std::vector<Tally> by_task;     // in order of the tasks
  std::vector<ItemResult> items;  // rank 0 only; tasks in order, items in order
  std::vector<bool> verdicts() const;
  std::vector<double> scores() const;
};

struct EvaluationOptions {
  SamplingOptions sampling;
  int64_t batch = 32;  // items generated together; part of what a reply depends on
};

// As `evaluate:` in the configuration says.
EvaluationOptions evaluation_options(const Config& config);

// Collective. Every rank gets the counts, rank 0 the items too. Nothing when a stop was asked for.
std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name);

}  // namespace svfleet
