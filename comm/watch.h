// Signs of life, and the thread that acts on them. Each rank tells rank 0 about every second what
// all of its work is at, and rank 0 answers with the same of its own. So a rank that moves is
// waited for without limit, in a round of chunks and in a collective, and one that stands still or
// is silent gets its name.
//
// What decides does nothing that can block: it reads counters and ends the process (give_up).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/group.h"
#include "comm/lives.h"
#include "comm/stage.h"

namespace svfleet {

class Watch {
 public:
  // Made and destroyed in the rank's main thread, whose stages it counts. `mail` carries nothing
  // else; nullptr in a group of one.
  Watch(const Group& group, Mailbox* mail, const GroupOptions& options);
  ~Watch();
  Watch(const Watch&) = delete;

  // While it lives, this rank tells of `chunk`, as far as stages are counted on its counter.
  class Hold {
   public:
    Hold(Watch& watch, int chunk);
    ~Hold();
    Hold(const Hold&) = delete;

    StageCounter& counter() { return counter_; }
    // Its worker is at another chunk that it holds, and will come back (comm/lives.h).
    void wait_behind(int other);
    void go_on() { wait_behind(Sign::kNothing); }

   private:
    friend class Watch;
    Watch& watch_;
    const int chunk_;
    int behind_ = Sign::kNothing;
    StageCounter counter_;
  };

  // Rank 0: who holds what. Asked in any thread until it is replaced; must not block.
  using Holdings = std::function<std::vector<Holding>()>;
  void look_after(Holdings holdings);
  // Main thread, now and then in a round of `op`. On rank 0 throws kExitRequeue when another rank
  // that holds a chunk has been silent for the timeout, or its chunk stands still for too long.
  void check(std::string_view op);

  Sign sign() const;  // what this rank tells

  // Since something in that rank moved: of rank 0 known everywhere, of the others on rank 0.
  double still_s(int rank) const { return lives_.still_s(rank, now_s_); }

 private:
  void end();  // of its threads
  void keep_watch();
  void tell();    // the messages of another rank
  void listen();  // those of rank 0
  void end_if_stuck() const;
  std::string what_stands(const Still& still) const;
  bool pause(double seconds);  // false: it is over

  const Group& group_;
  Mailbox* const mail_;
  const double timeout_s_, period_s_;  // period_s_: between two signs
  Lives lives_;
  std::atomic<double> now_s_{0};  // a clock that stops while this process is stopped
  StageCounter outside_;
  Counted outside_counted_{&outside_};
  mutable std::mutex mutex_;
  std::map<int, const Hold*> holds_;  // by chunk
  Holdings holdings_;
  std::string op_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread watcher_, messenger_;
};

}  // namespace svfleet
