// Where the workers of a rank hand each other pieces whose replies are all there: at the end of a
// step, one that has nothing left to do differentiates what another one would come to later.
//
// Who gives waits for nobody. Who waits helps with the parts of the others' operations
// (worker/kernels/team.h), until there is a piece for it, or all the others wait too or have ended.
// A worker that hangs meanwhile is ended by the rank's watch (comm/watch.h).
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "comm/hand.h"
#include "coordinator/training/sampled.h"

namespace svfleet {

// Of one round. Any thread.
class Handover {
 public:
  struct Parcel {
    Hand::Held held;
    Sampler::Piece piece;
  };

  // A worker is there while this lives.
  class Presence {
   public:
    explicit Presence(Handover& handover);
    ~Presence();
    Presence(const Presence&) = delete;

   private:
    Handover& handover_;
  };

  bool alone() const;   // one worker is there
  int wanting() const;  // workers that wait and were promised nothing
  // Whether there is one; it is promised something then, and give() must follow.
  bool promise();
  void give(Parcel parcel);
  // Of a worker that holds nothing. Nothing when nobody is left who could give, for good.
  std::optional<Parcel> wait();

 private:
  int wanting_here() const;  // the mutex is held
  mutable std::mutex mutex_;
  int present_ = 0, waiting_ = 0, promised_ = 0;
  bool over_ = false;  // somebody has left because nobody could give; who comes later is alone
  std::vector<Parcel> given_;  // first ones first
};

}  // namespace svfleet
