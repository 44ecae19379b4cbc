// The frozen weights and bases, looked at again while a run goes on. A bit that flips in memory
// leaves no other trace: every later step is wrong, and a restart, which reads the weights anew,
// would go on from there.
//
// They are looked at in rounds of k steps, a share of them after each step. When a round ends well,
// everything up to the step after which it began was made with the right weights. k is the least
// number with which a share takes at most 1 % of a step. It depends on measured times; nothing that
// a run computes depends on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/crew/crew.h"
#include "worker/model/weights.h"

namespace svfleet {

// k for `all_s` seconds for everything and steps of `step_s`; from 1 to `pieces`.
int64_t steps_of_round(double all_s, double step_s, int64_t pieces);

class WeightWatch {
 public:
  // Hashes all of `frozen` as it is now, after `step` finished steps. Its memory must stay.
  WeightWatch(const NamedTensors& frozen, Crew& crew, int64_t step);

  // Collective, after each step, while nothing computes; `step_s` is how long the step took. What
  // has changed on some rank, in words, the same on all ranks; empty: nothing so far.
  std::string after_step(int64_t step, double step_s);
  // Collective. The same, of everything at once: at the end of a run, or of a process that stops
  // inside a step, whose chunks are kept.
  std::string look_at_all(int64_t step);

  // Whether some of it is on this rank.
  bool changed_here() const { return changed_here_; }

  // Up to here all was made with the right weights, as far as this process can know.
  int64_t clean_step() const { return clean_step_; }
  double all_s() const { return all_s_; }  // what looking at everything takes

 private:
  struct Piece {
    std::string name;  // of its tensor
    at::Tensor part;   // a view of some megabytes
    std::string hash;
  };
  // On this rank: the tensor of the first of pieces [first, last) that has changed.
  std::string changed(int64_t first, int64_t last);
  std::string tell_all(const std::string& here);

  Crew& crew_;
  std::vector<Piece> pieces_;
  int64_t clean_step_;
  bool changed_here_ = false;
  int64_t began_ = 0;              // the step after which this round began
  int64_t length_ = 0, done_ = 0;  // of this round, in steps
  double round_s_ = 0, all_s_ = 0;
};

}  // namespace svfleet
