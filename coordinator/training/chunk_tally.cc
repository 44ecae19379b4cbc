#include "coordinator/training/chunk_tally.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "comm/error.h"

namespace svfleet {
namespace {

// One list of the fields for both directions: `counts` and `sums` take or give the next number.
template <class T, class Counts, class Sums>
void each_field(T& tally, Counts&& count, Sums&& sum) {
  for (auto* field : {&tally.groups, &tally.signal_groups, &tally.skipped_groups,
                      &tally.trained_groups, &tally.truncated, &tally.mismatch_tokens})
    count(*field);
  for (auto* field :
       {&tally.reward_sum, &tally.entropy_sum, &tally.kl.k1, &tally.kl.k2, &tally.kl.k3,
        &tally.mismatch_sum, &tally.mismatch_max, &tally.seconds.generate, &tally.seconds.base,
        &tally.seconds.score, &tally.seconds.gradient})
    sum(*field);
  for (auto& task : tally.by_task) {
    for (auto* field : {&task.replies, &task.counted, &task.right, &task.ended, &task.tokens})
      count(*field);
    sum(task.score_sum);
  }
}

// Behind the others, in the same order: chunks of earlier programs have none.
template <class T>
auto later_fields(T& tally) {
  return std::array{&tally.memory.predicted, &tally.memory.counted, &tally.loss.sum,
                    &tally.loss.tokens};
}

}  // namespace

Tally ChunkTally::all() const {
  Tally sum;
  for (const Tally& task : by_task) sum += task;
  return sum;
}

void ChunkTally::add(const ChunkTally& other) {
  SVFLEET_CHECK(by_task.size() == other.by_task.size(), by_task.size(), other.by_task.size());
  const double largest = std::max(mismatch_max, other.mismatch_max);
  memory.predicted = std::max(memory.predicted, other.memory.predicted);
  memory.counted = std::max(memory.counted, other.memory.counted);
  loss.sum += other.loss.sum, loss.tokens += other.loss.tokens;
  fitness.insert(fitness.end(), other.fitness.begin(), other.fitness.end());
  const PackedTally more = pack(other);
  size_t c = 1, s = 0;
  each_field(
      *this, [&](int64_t& field) { field += more.counts[c++]; },
      [&](double& field) { field += more.sums[s++]; });
  kl_measured = kl_measured || other.kl_measured;
  mismatch_max = largest;
}

PackedTally pack(const ChunkTally& tally) {
  PackedTally packed;
  packed.counts.push_back(tally.kl_measured);
  each_field(
      tally, [&](int64_t field) { packed.counts.push_back(field); },
      [&](double field) { packed.sums.push_back(field); });
  for (const double* field : later_fields(tally)) packed.sums.push_back(*field);
  if (tally.fitness.empty()) return packed;
  packed.counts.push_back(int64_t(tally.fitness.size()));  // as no task has one count alone
  packed.sums.insert(packed.sums.end(), tally.fitness.begin(), tally.fitness.end());
  return packed;
}

ChunkTally unpack(const PackedTally& packed) {
  constexpr size_t kCounts = 7, kTaskCounts = 5;  // without, and of, each task
  const size_t tasks =
      packed.counts.size() < kCounts ? 0 : (packed.counts.size() - kCounts) / kTaskCounts;
  ChunkTally tally(tasks);
  if (packed.counts.size() == kCounts + kTaskCounts * tasks + 1) {
    const int64_t members = packed.counts.back();
    SVFLEET_CHECK(members > 0 && size_t(members) <= packed.sums.size(), members, " members");
    tally.fitness.assign(packed.sums.end() - members, packed.sums.end());
  }
  const PackedTally like = pack(tally);
  const bool with_more = packed.sums.size() == like.sums.size();  // earlier programs had none
  SVFLEET_CHECK(
      packed.counts.size() == like.counts.size() &&
          (with_more || packed.sums.size() + later_fields(tally).size() == like.sums.size()),
      packed.counts.size(), " counts and ", packed.sums.size(), " sums");
  size_t c = 1, s = 0;
  tally.kl_measured = packed.counts[0] != 0;
  each_field(
      tally, [&](int64_t& field) { field = packed.counts[c++]; },
      [&](double& field) { field = packed.sums[s++]; });
  if (with_more)
    for (double* field : later_fields(tally)) *field = packed.sums[s++];
  return tally;
}

}  // namespace svfleet
