// How good a policy is on a split: replies to every item, shared over all ranks in fixed batches.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/base.h"
#include "coordinator/policy.h"
#include "rl/statistics.h"
#include "rl/task.h"

namespace svfleet {

struct ItemResult {
  bool right = false;
  bool ended = false;  // by itself
  int64_t tokens = 0;
  std::string reply;
};

struct Evaluation {
  std::string name;
  int64_t n = 0, right = 0, ended = 0;
  double mean_tokens = 0;
  std::vector<ItemResult> items;  // rank 0 only; tasks in order, items in order
  double accuracy() const { return n ? double(right) / double(n) : 0; }
  double ended_share() const { return n ? double(ended) / double(n) : 0; }
  std::vector<bool> verdicts() const;
};

struct EvaluationOptions {
  SamplingOptions sampling;
  int64_t batch = 32;  // items generated together; part of what a reply depends on
};

// Collective. Every rank gets the counts, rank 0 the items too. Nothing when a stop was asked for.
std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name);

}  // namespace svfleet
