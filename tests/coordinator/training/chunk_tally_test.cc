// Tallies add up, and travel.
#include "coordinator/training/chunk_tally.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/error.h"

namespace svfleet {
namespace {

ChunkTally example() {
  ChunkTally tally(2);
  tally.groups = 4, tally.signal_groups = 3, tally.skipped_groups = 1, tally.trained_groups = 3;
  tally.truncated = 2, tally.reward_sum = -1.5, tally.entropy_sum = 7.25;
  tally.kl_measured = true, tally.kl = {0.5, 0.25, 0.125};
  tally.mismatch_sum = 0.75, tally.mismatch_max = 0.5, tally.mismatch_tokens = 60;
  tally.seconds = {1, 2, 3, 4};
  tally.memory = {2e9, 1.9e9}, tally.loss = {12.5, 30};
  tally.by_task[0] = {"", 6, 5, 3, 4, 40, 3.5};
  tally.by_task[1] = {"", 2, 2, 1, 2, 20, 1.25};
  return tally;
}

void expect_example(const ChunkTally& tally, int times) {
  EXPECT_EQ(tally.groups, 4 * times);
  EXPECT_EQ(tally.signal_groups, 3 * times);
  EXPECT_EQ(tally.skipped_groups, times);
  EXPECT_EQ(tally.trained_groups, 3 * times);
  EXPECT_EQ(tally.truncated, 2 * times);
  EXPECT_EQ(tally.reward_sum, -1.5 * times);
  EXPECT_EQ(tally.entropy_sum, 7.25 * times);
  EXPECT_TRUE(tally.kl_measured);
  EXPECT_EQ(tally.kl.k1, 0.5 * times);
  EXPECT_EQ(tally.kl.k2, 0.25 * times);
  EXPECT_EQ(tally.kl.k3, 0.125 * times);
  EXPECT_EQ(tally.mismatch_sum, 0.75 * times);
  EXPECT_EQ(tally.mismatch_max, 0.5);  // no sum
  EXPECT_EQ(tally.mismatch_tokens, 60 * times);
  EXPECT_EQ(tally.seconds.generate, 1 * times);
  EXPECT_EQ(tally.seconds.base, 2 * times);
  EXPECT_EQ(tally.seconds.score, 3 * times);
  EXPECT_EQ(tally.seconds.gradient, 4 * times);
  EXPECT_EQ(tally.memory.predicted, 2e9);  // the largest
  EXPECT_EQ(tally.memory.counted, 1.9e9);
  EXPECT_EQ(tally.loss.sum, 12.5 * times);
  EXPECT_EQ(tally.loss.tokens, 30 * times);
  ASSERT_EQ(tally.by_task.size(), 2u);
  EXPECT_EQ(tally.by_task[0].replies, 6 * times);
  EXPECT_EQ(tally.by_task[1].tokens, 20 * times);
  const Tally all = tally.all();
  EXPECT_EQ(all.replies, 8 * times);
  EXPECT_EQ(all.counted, 7 * times);
  EXPECT_EQ(all.right, 4 * times);
  EXPECT_EQ(all.ended, 6 * times);
  EXPECT_EQ(all.tokens, 60 * times);
  EXPECT_EQ(all.score_sum, 4.75 * times);
}

TEST(ChunkTally, AddsUpAndTravels) {
  ChunkTally sum(2);
  for (int i = 0; i < 3; ++i) sum.add(unpack(pack(example())));
  expect_example(sum, 3);
  ChunkTally damaged = example();
  damaged.entropy_sum = std::nan("");
  EXPECT_TRUE(std::isnan(unpack(pack(damaged)).entropy_sum));
  PackedTally torn = pack(example());
  torn.counts.pop_back();
  EXPECT_THROW(unpack(torn), Error);
  EXPECT_THROW(unpack({}), Error);
}

// Members come one behind the other, chunk by chunk, not-a-numbers too.
TEST(ChunkTally, AddsMembersAtTheEnd) {
  ChunkTally first = example(), second = example(), sum(2);
  first.fitness = {0.25, std::nan("")};
  second.fitness = {-1, 0.5};
  for (const ChunkTally& part : {first, second}) sum.add(unpack(pack(part)));
  expect_example(sum, 2);
  ASSERT_EQ(sum.fitness.size(), 4u);
  EXPECT_EQ(sum.fitness[0], 0.25);
  EXPECT_TRUE(std::isnan(sum.fitness[1]));
  EXPECT_EQ(sum.fitness[3], 0.5);
  PackedTally torn = pack(second);
  torn.sums.pop_back();
  EXPECT_THROW(unpack(torn), Error);
  torn = pack(second);
  torn.counts.back() = 9000;
  EXPECT_THROW(unpack(torn), Error);
}

}  // namespace
}  // namespace svfleet
