#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <set>

#include "rl/task.h"

namespace svfleet {
namespace {

TEST(PromptOrder, EveryEpochHasEveryItemOnce) {
  const std::vector<int64_t> sizes = {7, 13, 40};
  const PromptOrder order(5, sizes, {1, 2, 4});
  const auto picks = order.picks(0, 700);
  std::vector<std::vector<int64_t>> items(3);
  for (const PromptPick& pick : picks) items[pick.task].push_back(pick.item);
  for (int task = 0; task < 3; ++task) {
    const int64_t epochs = static_cast<int64_t>(items[task].size()) / sizes[task];
    ASSERT_GE(epochs, 2);
    std::set<std::vector<int64_t>> orders;
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto begin = items[task].begin() + epoch * sizes[task];
      orders.insert({begin, begin + sizes[task]});
      const std::set<int64_t> distinct(begin, begin + sizes[task]);
      EXPECT_EQ(static_cast<int64_t>(distinct.size()), sizes[task]);
      EXPECT_EQ(*distinct.begin(), 0);
      EXPECT_EQ(*distinct.rbegin(), sizes[task] - 1);
    }
    EXPECT_EQ(static_cast<int64_t>(orders.size()), epochs) << "an epoch repeats another's order";
  }
}

TEST(PromptOrder, SharesFollowTheWeightsAtEveryPoint) {
  const std::vector<double> weights = {3, 1, 0.5};
  const PromptOrder order(0, {10, 10, 10}, weights);
  std::vector<int> counts(3, 0);
  const auto picks = order.picks(0, 9000);
  for (size_t n = 0; n < picks.size(); ++n) {
    ++counts[picks[n].task];
    for (int t = 0; t < 3; ++t)
      ASSERT_LT(std::abs(counts[t] - (n + 1) * weights[t] / 4.5), 2) << "after " << n + 1;
  }
  EXPECT_NEAR(counts[0], 6000, 2);
  EXPECT_NEAR(counts[1], 2000, 2);
  EXPECT_NEAR(counts[2], 1000, 2);
}

TEST(PromptOrder, AnySplitOfTheRangeGivesTheSamePicks) {
  for (const PromptOrder& order : {PromptOrder(2, {11, 5}, {1, 3}), PromptOrder(2, {11}, {0.5})}) {
    const auto whole = order.picks(0, 200);
    for (int64_t size : {1, 3, 8, 64}) {
      std::vector<PromptPick> pieces;
      for (int64_t first = 0; first < 200; first += size) {
        const auto part = order.picks(first, std::min<int64_t>(size, 200 - first));
        pieces.insert(pieces.end(), part.begin(), part.end());
      }
      ASSERT_TRUE(std::equal(whole.begin(), whole.end(), pieces.begin(), pieces.end()));
    }
    EXPECT_TRUE(order.picks(100, 0).empty());
  }
}

TEST(PromptOrder, AnotherSeedIsAnotherOrder) {
  const auto a = PromptOrder(0, {100}, {1}).picks(0, 100);
  const auto b = PromptOrder(1, {100}, {1}).picks(0, 100);
  int same = 0;
  for (int i = 0; i < 100; ++i) same += a[i] == b[i];
  EXPECT_LT(same, 15);  // 1 expected by chance
}

TEST(PromptOrder, AStepAfterAMillionPromptsIsQuick) {
  const PromptOrder order(0, {7473, 2000, 500}, {2, 1, 1});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(order.picks(1'000'000, 32).size(), 32u);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 1);  // measured 0.01 s; room for sanitizers and busy machines
  RecordProperty("seconds", std::to_string(seconds.count()));
}

}  // namespace
}  // namespace svfleet
