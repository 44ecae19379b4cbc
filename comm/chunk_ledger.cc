#include "comm/chunk_ledger.h"

#include <algorithm>
#include <set>

#include "comm/error.h"

namespace svfleet {

void ChunkLedger::start(const std::vector<int>& order, int64_t workers) {
  std::lock_guard<std::mutex> lock(mutex_);
  SVFLEET_CHECK(cancelled_ || (held_.empty() && next_ == order_.size()), held_.size(),
                " chunks held and ", order_.size() - next_, " not handed out of round ", round_);
  SVFLEET_CHECK(std::set<int>(order.begin(), order.end()).size() == order.size(),
                "a chunk twice among ", order.size());
  order_ = order;
  workers_ = workers;
  next_ = 0;
  ++round_;
  cancelled_ = false;
  held_.clear();
  levels_.clear();
  finished_ = 0;
}

int64_t ChunkLedger::round() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return round_;
}

std::optional<int> ChunkLedger::hand_out(int rank, int64_t round, int held, int worker,
                                         bool* nothing_left) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (nothing_left) *nothing_left = true;
  if (round != round_ || cancelled_ || next_ == order_.size()) return std::nullopt;
  const int64_t left = int64_t(order_.size() - next_) - 1;
  levels_[{rank, worker}] = held;
  int64_t owed = (workers_ - int64_t(levels_.size())) * (held + 1);  // who has not asked has none
  for (const auto& [who, level] : levels_)
    if (who != std::pair(rank, worker)) owed += std::max(0, held + 1 - level);
  if (nothing_left) *nothing_left = false;
  if (held > 0 && left < owed) return std::nullopt;
  const int chunk = order_[next_++];
  ++levels_[{rank, worker}];
  held_[chunk] = {rank, worker, Clock::now()};
  return chunk;
}

void ChunkLedger::finish(int rank, int64_t round, int chunk) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (round != round_) return;  // of a cancelled round
  const auto held = held_.find(chunk);
  SVFLEET_CHECK(held != held_.end() && held->second.rank == rank, "rank ", rank, " finished chunk ",
                chunk, ", which it does not hold");
  // One that was given to another worker is counted with who took it: too low is the safe side.
  int& level = levels_[{rank, held->second.worker}];
  level = std::max(0, level - 1);
  held_.erase(held);
  ++finished_;
}

void ChunkLedger::cancel(int64_t round) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (round == round_) cancelled_ = true;
}

bool ChunkLedger::over() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return held_.empty() && (cancelled_ || next_ == order_.size());
}

std::vector<Holding> ChunkLedger::holdings() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Holding> all;
  for (const auto& [chunk, held] : held_)
    all.push_back(
        {chunk, held.rank, std::chrono::duration<double>(Clock::now() - held.since).count()});
  std::stable_sort(all.begin(), all.end(),
                   [](const Holding& a, const Holding& b) { return a.seconds > b.seconds; });
  return all;
}

int64_t ChunkLedger::finished_count() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return finished_;
}

}  // namespace svfleet
