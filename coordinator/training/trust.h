// How far a run is known to have been computed with the right weights, and the way back when memory
// has changed: what was made since then is set aside.
#pragma once

#include <string>

#include "checkpoints/clean.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/training/narrator.h"

namespace svfleet {

class Trust {
 public:
  // Collective. Looks at the frozen weights as they are now, and at what an earlier process left of
  // a run that goes on from `state`.
  Trust(const Base& base, Crew& crew, RunFolder& folder, Narrator& narrator, const RunState& state);

  // Collective. Looks at a share of the weights, or at all. Where something has changed, what was
  // made since the last clean step is set aside and an AgreedError(kExitRequeue), which names the
  // hosts, asks for a new start.
  void after_step(int64_t step, double step_s) { act_on(watch_.after_step(step, step_s), step); }
  void look_at_all(int64_t step) { act_on(watch_.look_at_all(step), step); }

  // Rank 0: how far it has come, on the disk.
  void note();

  int64_t clean_step() const { return clean_.step; }  // as on the disk; on rank 0
  double all_s() const { return watch_.all_s(); }     // what looking at everything takes

 private:
  void act_on(const std::string& change, int64_t step);

  Crew& crew_;
  RunFolder& folder_;
  Narrator& narrator_;
  WeightWatch watch_;
  CleanRecord clean_;
};

}  // namespace svfleet
