// The book that a rank keeps of the signs of life of all ranks: who is silent, who stands still,
// and how long a stage of each class has taken so far. No clock, no thread, no message:
// comm/watch.h has them. Every member may be called by any thread.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/chunk_queue.h"
#include "comm/stage.h"

namespace svfleet {

// What a rank tells about itself, once a second or more often.
struct Sign {
  struct Work {
    int32_t chunk;   // kOutside: the rank's own thread, outside of chunks
    uint64_t value;  // StageCounter::value
    // Its worker holds several chunks and is at this one instead; kNothing: it is at work.
    int32_t behind = kNothing;
  };
  static constexpr int32_t kOutside = -1, kNothing = -1;
  std::array<uint64_t, kStages> seen{};  // stages_seen()
  std::vector<Work> works;               // kOutside first

  std::string pack() const;
  static Sign unpack(const std::string& bytes);
};

// A piece of work whose counter stands still.
struct Still {
  int rank = 0;
  int32_t chunk = Sign::kOutside;
  StageClass at;
  double for_s = 0;
  double limit_s = 0;  // that it may
  bool over() const { return for_s > limit_s; }
};

class Lives {
 public:
  // `least_s`: no counter is given up before it has stood so long.
  Lives(int ranks, double timeout_s, double least_s);

  // `now_s` by a clock of the caller's, here and below.
  void heard(int rank, const Sign& sign, double now_s);
  double silent_s(int rank, double now_s) const;
  // Since something in the rank moved.
  double still_s(int rank, double now_s) const;

  // The longest of what is held that is still; by rank and chunk as the ledger has it. A chunk
  // that waits behind another of its worker is not still: the other one is, where the worker hangs.
  // A stage may stand still for max(least_s, 6 times the longest of its class so far), and for
  // kPatience times the timeout while no stage of its class has come to an end anywhere.
  std::optional<Still> worst(const std::vector<Holding>& held) const;
  // The same of a rank's own thread outside of chunks. Between its stages (kStep), and in one of
  // which nothing is known, it may stand for the timeout, as in front of a collective. Nothing
  // while it waits for others, and where it does not say what it does.
  std::optional<Still> outside(int rank) const;

  // That a chunk may take while nothing is known, in timeouts.
  static constexpr double kPatience = 10;

 private:
  struct Standing {
    uint64_t value;
    double for_s;  // in which signs came: a rank that is stopped does not stand still but is silent
  };
  struct Life {
    double heard_s = 0, moved_s = 0;
    std::map<int32_t, Standing> works;
  };
  double limit_s(StageClass at) const;  // the mutex is held, as below
  bool seen(StageClass at) const;

  const double timeout_s_, least_s_;
  mutable std::mutex mutex_;
  std::vector<Life> lives_;
  std::array<uint64_t, kStages> seen_{};
  std::array<float, kStages * 64> longest_s_{};
};

}  // namespace svfleet
