// Several pieces of a step at a time in one worker, whose replies one engine writes: as those of a
// piece end, it takes a further one, so that the batch stays full. A piece whose replies are all
// there is judged, differentiated and handed in by itself, while the others wait with their state.
// Once nothing more is to be had, replies come first, and workers without any differentiate what
// others have written (training/handover.h): the step ends for all of them at about the same time.
//
// A reply depends on its own prompt, keys and entry, so neither which pieces are in flight together
// nor who differentiates them alters any bits.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/hand.h"
#include "coordinator/training/chunk.h"
#include "coordinator/training/handover.h"
#include "coordinator/training/sampled.h"

namespace svfleet {

// What bounds the memory that replies in flight have beside a gradient. A worker without any takes
// a piece whatever its size, and then has the engine's memory to itself (Sampler::take_finished).
struct FlightLimit {
  int64_t rows = 1;   // replies being written
  int64_t bytes = 0;  // of their keys and values, each at its full length; 0: any
};
inline constexpr int64_t kAutoRows = 32;  // where a CPU's products begin to be bound by arithmetic
// A quarter of what a gradient may keep before it computes layers again (Again::kAuto).
inline constexpr int64_t kAutoRowBytes = int64_t(256) << 20;
FlightLimit flight_limit(int64_t rows_per_worker);  // train.rows_per_worker

struct Flight {
  const Base& base;
  const Replies& replies;
  Handover& handover;  // of this rank's workers in this round
  FlightLimit limit;
  int64_t piece_rows = 0;                                            // replies of a piece, at most
  int64_t longest_reply = 0;                                         // of any piece, in tokens
  std::function<std::vector<ChunkWork>(int piece)> works = nullptr;  // what they hold must stay
  std::function<void(std::vector<FinishedChunk>)> keep = nullptr;    // before it is handed in
};
// Until nothing is left for this worker. Throws StopWork when a stop is asked for, between tokens
// or gradients: none begins after that.
void work_in_flight(Hand& hand, const Flight& flight);

}  // namespace svfleet
