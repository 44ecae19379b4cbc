// The ranks and threads that work together: who we are, what all ranks must agree on, and work
// handed out over all of them.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/allocation_end.h"
#include "comm/agreement.h"
#include "comm/chunk_queue.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "comm/group.h"
#include "comm/hand.h"
#include "comm/host_ranks.h"
#include "comm/reducer.h"
#include "coordinator/config/config.h"
#include "worker/device.h"

namespace svfleet {

// How a shared piece of work stands; on rank 0.
struct ShareReport {
  int64_t finished = 0;      // pieces
  std::vector<Holding> out;  // pieces being worked on, longest-held first
};

// Thrown by a piece of shared work that a stop request has cut short: it is not finished, and that
// is no failure.
struct StopWork {};

class Crew {
 public:
  // Collective. Makes the world, sets threads per chunk, opens the device, starts the queue, and
  // checks that every rank runs the same program with the same configuration.
  // `clock`: the one by which the allocation ends.
  explicit Crew(const Config& config, AllocationEnd::Clock clock = steady_clock_s);

  Group& group() { return *group_; }
  Reducer& reducer() { return *reducer_; }
  bool leads() const { return group_->rank() == 0; }
  int ranks() const { return group_->size(); }
  int workers() const { return workers_; }  // of this rank
  const Device& device() const { return device_; }
  int64_t slots() const { return slots_; }  // chunks side by side, over all ranks
  const std::vector<std::string>& hosts() const { return hosts_; }  // by rank
  HostRanks& host_ranks() { return *host_ranks_; }                  // those of this rank's host
  double timeout_s() const { return timeout_s_; }

  // Collective. Error(kExitUser) on every rank, naming the ranks that differ from rank 0 and their
  // hosts, unless `value` is the same everywhere.
  void agree(const std::string& what, const std::string& value);
  // Collective. The same of what ranks have computed alike: AgreedError(kExitRequeue), naming those
  // that differ from more than half of all. Where no value has so many, no host is to blame.
  void compare(const std::string& what, const std::string& value);

  // Collective. `work` is called once for each of `pieces` (read on rank 0), somewhere, in threads;
  // first ones first. `report` is called on rank 0 a few times a second. Returns false when a stop
  // was asked for on any rank before all was done. Once any rank has found that the allocation
  // would end before one more piece is finished, no piece is started anywhere. Each rank works on
  // at most `most_workers` at a time (0: workers()). Work that throws StopWork is
  // left. Another exception in `work` ends the round: what other threads and ranks hold is
  // finished, and every rank throws the same AgreedError.
  using Report = std::function<void(const ShareReport&)>;
  bool share(const std::vector<int>& pieces, const std::string& what,
             const std::function<void(int)>& work, const Report& report, int most_workers = 0);
  // Collective. The same where a worker may hold several pieces at a time: `worker` is called once
  // in each thread, takes pieces until it gets none, and hands in each by itself. Where it throws,
  // the pieces that it holds are left.
  bool share(const std::vector<int>& pieces, const std::string& what,
             const std::function<void(Hand&)>& worker, const Report& report, int most_workers = 0);

  // Collective. share() of `total` things, `batch` at a time, with a progress line: work(first,
  // last) is called once for each batch, and rank 0 gets what it returned, in order. Nothing, on
  // every rank, when a stop was asked for before all was done.
  struct Batches {
    std::string what, label, unit;  // "evaluate", "evaluate base", "items"
    int64_t total = 0, batch = 1;
    int most_workers = 0;  // on this rank; 0: workers()
  };
  std::optional<std::vector<std::string>> collect(
      const Batches& batches, const std::function<std::string(int64_t, int64_t)>& work);

  // Collective. Every rank does this, and all have when it returns; an exception on any of them is
  // the same AgreedError everywhere.
  void together(const std::string& what, const std::function<void()>& work);
  // Collective. The same of what rank 0 does alone.
  void on_leader(const std::string& what, const std::function<void()>& work);

  // A piece of this kind has taken so long before.
  void note_piece(const std::string& what, double seconds) {
    longest_s_[what] = std::max(longest_s_[what], seconds);
  }
  // What stopping takes beside finishing pieces.
  void note_save(double seconds) { longest_save_s_ = std::max(longest_save_s_, seconds); }
  // Whether the end of the allocation has stopped something.
  bool time_was_short() const { return allocation_->was_short(); }

  // On this rank alone: work(0..count-1) side by side in workers() threads.
  void side_by_side(int64_t count, const std::function<void(int64_t)>& work);
  // On this rank alone: one piece of work, with whose operations the other workers() threads help
  // (worker/kernels/team.h). In share(), those that get no more pieces do so by themselves.
  void helped(const std::function<void()>& work);

 private:
  std::string place_of(const std::string& what, const std::vector<int>& pieces) const;

  std::unique_ptr<Group> group_;
  std::unique_ptr<Reducer> reducer_;
  Device device_;
  std::unique_ptr<ChunkQueue> queue_;
  double timeout_s_;
  int workers_ = 1;
  int64_t slots_ = 1;
  std::vector<std::string> hosts_;
  std::unique_ptr<HostRanks> host_ranks_;
  std::unique_ptr<AllocationEnd> allocation_;
  std::map<std::string, double> longest_s_;  // a piece of each kind of work, on this rank
  double longest_save_s_ = 0;
};

}  // namespace svfleet
