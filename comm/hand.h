// What one worker holds of a round of chunks (comm/chunk_queue.h): several at a time, if it likes.
// Each has a place of its own in the queue's book, and a progress counter of its own by which it is
// judged (comm/lives.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "comm/chunk_queue.h"
#include "comm/stage.h"
#include "comm/watch.h"

namespace svfleet {

// Of one thread.
class Hand {
 public:
  struct Rules {
    // Asked before each chunk, with how many the worker holds. Once it has said no to a worker that
    // holds none, the round is cancelled and nothing more is asked for.
    std::function<bool(int held)> may_take = nullptr;
    // Told of each that was finished, and for how long it was held.
    std::function<void(double held_s)> finished = nullptr;
  };
  // Both must stay. `worker`: which of its rank's.
  Hand(ChunkQueue& queue, const Rules& rules, int worker = 0)
      : queue_(queue), rules_(rules), worker_(worker) {}
  Hand(const Hand&) = delete;

  // One chunk more; the worker is at it, beside what it is at already. Nothing where it may not
  // take one, or should leave what there is to other workers. Throws as ChunkQueue::next.
  std::optional<int> take();
  // The worker goes on with these of its chunks, whose work each of its stages is from here on; the
  // others wait behind them.
  void at(const std::vector<int>& chunks);
  void finished(int chunk);
  // A chunk with its place in the book goes to another worker of this rank: who gives it is no
  // longer at it, who gets it is, beside what that one is at already.
  struct Held {
    std::unique_ptr<Watch::Hold> hold;
    double since_s;
  };
  Held give(int chunk);
  void receive(int chunk, Held held) noexcept;  // what could not be held would be lost to all
  // Gives up all that it holds, and cancels the round if that is anything.
  void leave();

  int size() const { return int(held_.size()); }
  // The round had been handed out when it last asked: nothing is kept for others either.
  bool nothing_left() const { return nothing_left_; }
  int most() const { return most_; }               // that it has held at a time
  double longest_s() const { return longest_s_; }  // that one was held, until it was finished
  const std::vector<int>& working_on() const { return at_; }

 private:
  void let_go(int chunk);

  ChunkQueue& queue_;
  const Rules& rules_;
  const int worker_;
  std::map<int, Held> held_;
  std::vector<int> at_;             // that the thread is at
  std::optional<Counted> counted_;  // on their counters
  int refused_at_ = -1;             // held when nothing was given; what waits only becomes less
  bool nothing_left_ = false;
  int most_ = 0;
  double longest_s_ = 0;
};

// How a rank works through a round, beside the work itself.
struct WorkRules {
  int workers = 1;  // threads
  // Called about every 0.2 s in the calling thread (progress, signals); when it returns false the
  // round is cancelled.
  std::function<bool()> idle = nullptr;
  std::string_view op = "chunks";  // what messages call the work, whose stages are counted
  Hand::Rules hand = {};
};

// Runs `worker` once in each of the threads of this rank, and returns when the round is over for
// them; what a worker still holds when it returns is given up. The first exception cancels the
// round and is thrown again here. On rank 0 it also throws Error(kExitRequeue) when another rank
// that holds a chunk is lost.
void work_through(ChunkQueue& queue, const std::function<void(Hand&)>& worker,
                  const WorkRules& rules);
// The same, one chunk at a time: `work(chunk)` for each.
void work_through(ChunkQueue& queue, int workers, const std::function<void(int)>& work,
                  const std::function<bool()>& idle);

}  // namespace svfleet
