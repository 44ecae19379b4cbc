// What a training run works on, and an expert of it with what this rank has of its step.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "checkpoints/finished_chunk.h"
#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/training/learner.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/policy.h"

namespace svfleet {

// All of it stays while the run is worked on.
struct TrainingRun {
  const Config& config;
  Crew& crew;
  Base& base;
  RunFolder& folder;
  const std::vector<ExpertPlan>& experts;
};

struct Trainee {
  const ExpertPlan& plan;
  Learner learner;
  Policy policy = {};
  std::vector<FinishedChunk> own = {};  // chunks; the first `restored` by an earlier process
  int64_t restored = 0;
  std::set<int> missing = {};  // chunks that the journal did not have
  const RunState& state() const { return learner.state(); }
  const std::string& name() const { return plan.name; }
};

// Steps of the run that are finished.
inline int64_t step_of(const std::vector<Trainee>& trainees) {
  int64_t last = 0;
  for (const Trainee& one : trainees) last = std::max(last, one.state().step);
  return last;
}

// Those that are not finished.
inline std::vector<Trainee*> active_of(std::vector<Trainee>& trainees) {
  std::vector<Trainee*> active;
  for (Trainee& one : trainees)
    if (!one.learner.finished()) active.push_back(&one);
  return active;
}

}  // namespace svfleet
