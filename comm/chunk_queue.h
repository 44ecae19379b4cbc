// Hands out pieces of work (chunks of a training step, matrices, evaluation batches) to whichever
// replica asks, and records who holds which and since when.
//
// A replica asks by its leader (comm/replicas.h), which brings its other ranks along. Rank 0 runs a
// service thread; other ranks ask by plain messages. With one rank it is a locked loop. Nothing in
// a result may depend on who was given what.
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
  // round is cancelled before its first chunk.
  virtual void start_round(const std::vector<int>& order, bool willing = true) = 0;
  // Any thread of any leader: the next chunk, or nothing when the round has been handed out.
  // Throws kExitRequeue after the timeout, naming rank 0.
  virtual std::optional<int> next() = 0;
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

// Runs `work(chunk)` in `workers` threads of this rank until the round is over. The first exception
// cancels the round and is thrown again here. `idle` is called about every 0.2 s in the calling
// thread (progress, signals); when it returns false the round is cancelled. On rank 0 it
// also throws Error(kExitRequeue) when another rank that holds a chunk is lost. `may_start` is
// asked before each chunk, in the thread that would work on it: once it has said no, the round is
// cancelled and nothing more is asked for. `op` is what messages call the work, whose stages are
// counted (comm/stage.h).
void work_through(ChunkQueue& queue, int workers, const std::function<void(int)>& work,
                  const std::function<bool()>& idle, std::string_view op = "chunks",
                  const std::function<bool()>& may_start = nullptr);

}  // namespace svfleet
