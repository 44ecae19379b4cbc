// Hands out pieces of work (chunks of a training step, matrices, evaluation batches) to whichever
// replica asks, and records who holds which and since when.
//
// A replica asks by its leader (comm/replicas.h), which brings its other ranks along. Rank 0 runs a
// service thread; other ranks ask by plain messages. With one rank it is a locked loop. Nothing in
// a result may depend on who was given what. A worker may hold several at a time (comm/hand.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/group.h"
#include "comm/replicas.h"

namespace svfleet {

struct Holding {
  int chunk;
  int rank;        // the leader of the replica
  double seconds;  // since it was handed out
};

class ChunkQueue {
 public:
  virtual ~ChunkQueue() = default;
  // Collective. Starts a round. `order` (read on rank 0 only) lists the chunks to hand out, first
  // one first; all previous chunks must have been finished. Where any rank is not `willing`, the
  // round is cancelled before its first chunk. `workers`: threads of this rank that will ask.
  virtual void start_round(const std::vector<int>& order, bool willing = true, int workers = 1) = 0;
  // Any thread of any leader: the next chunk, or nothing when the round has been handed out, or
  // when `worker` of this rank, which `held` some already, would take what another one could do
  // (comm/chunk_ledger.h): then `nothing_left` is false. Throws kExitRequeue after the timeout,
  // naming rank 0.
  virtual std::optional<int> next(int held = 0, int worker = 0, bool* nothing_left = nullptr) = 0;
  // Any thread: tells the queue that this replica has finished `chunk`.
  virtual void finished(int chunk) = 0;
  // The group's, of which rank 0 is told who holds what.
  virtual Watch& watch() = 0;
  // Every rank, when it gets no more chunks: returns when all ranks have finished what they hold.
  // A rank is waited for as long as it gives signs of life and its chunk moves (comm/lives.h); else
  // it is named in an Error(kExitRequeue), and so is a rank 0 that does not answer. `idle` as in
  // work_through.
  virtual void wait_until_over(std::string_view op, const std::function<bool()>& idle) = 0;
  // No more chunks of this round are handed out anywhere (a stop was asked for). Any thread, any
  // rank.
  virtual void cancel_round() = 0;
  // Rank 0 only: what is out, longest-held first; chunks finished so far in this round.
  virtual std::vector<Holding> holdings() const = 0;
  virtual int64_t finished_count() const = 0;
};

// Collective. The queue must end (be destroyed, collectively) before the group.
std::unique_ptr<ChunkQueue> make_chunk_queue(Group& group, double timeout_s,
                                             Replicas replicas = {});

}  // namespace svfleet
