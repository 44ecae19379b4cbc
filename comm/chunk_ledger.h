// The book that rank 0 keeps of a round: what is still to be handed out, who holds what since
// when, what is finished. Every member may be called by any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "comm/chunk_queue.h"

namespace svfleet {

class ChunkLedger {
 public:
  // Begins the next round, of so many workers on all ranks. The round before must be finished or
  // cancelled.
  void start(const std::vector<int>& order, int64_t workers = 1);
  int64_t round() const;
  // Nothing when `round` is over, cancelled or not the present one: a message of an old round
  // cannot take a chunk of a new one. Who `held` some already gets one more only where enough stay
  // for every other worker to have as many as this one then holds, so that none is idle for what
  // another hoards: `nothing_left` is false then, and true where nothing is handed out any more.
  std::optional<int> hand_out(int rank, int64_t round, int held = 0, int worker = 0,
                              bool* nothing_left = nullptr);
  void finish(int rank, int64_t round, int chunk);
  void cancel(int64_t round);
  // Nothing is out, and nothing more will be handed out in this round.
  bool over() const;
  std::vector<Holding> holdings() const;
  int64_t finished_count() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Held {
    int rank, worker;
    Clock::time_point since;
  };

  mutable std::mutex mutex_;
  std::vector<int> order_;
  size_t next_ = 0;
  int64_t workers_ = 1;
  int64_t round_ = 0;
  bool cancelled_ = false;
  std::map<int, Held> held_;                   // by chunk
  std::map<std::pair<int, int>, int> levels_;  // by rank and worker: what it holds, as far as known
  int64_t finished_ = 0;
};

}  // namespace svfleet
