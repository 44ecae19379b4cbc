#include "comm/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "comm/error.h"

namespace svfleet {
namespace {

// The known answers that Random123 publishes for philox4x32, 10 rounds.
TEST(Philox, KnownAnswers) {
  using Four = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}), (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Digits of pi.
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(KeyedUniform, EveryPartOfTheKeyMatters) {
  std::set<double> seen;
  const uint64_t far = uint64_t{1} << 40;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, far})
    for (Stream stream : {Stream::kSample, Stream::kPromptOrder, Stream::kReward, Stream::kInit,
                          Stream::kProbe, Stream::kBootstrap, Stream::kSignFlip})
      for (uint64_t a : {uint64_t{0}, uint64_t{1}, far})
        for (uint64_t b : {uint64_t{0}, uint64_t{1}, far})
          for (uint32_t c : {0u, 1u, 1u << 31}) seen.insert(keyed_uniform(seed, stream, a, b, c));
  EXPECT_EQ(seen.size(), 3u * 7 * 3 * 3 * 3);
  std::set<double> samples;
  for (int step = 0; step < 5; ++step)
    for (int prompt = 0; prompt < 5; ++prompt)
      for (int sample = 0; sample < 5; ++sample)
        for (int position = 0; position < 5; ++position)
          samples.insert(sample_uniform(9, step, prompt, sample, position));
  EXPECT_EQ(samples.size(), 625u);
  EXPECT_EQ(sample_uniform(9, 1, 2, 3, 4), sample_uniform(9, 1, 2, 3, 4));
  EXPECT_THROW(sample_uniform(0, -1, 0, 0, 0), Error);
}

TEST(KeyedUniform, IsUniform) {
  // 200,000 draws in 100 bins: chi-square with 99 degrees has mean 99, deviation 14.1.
  constexpr int kDraws = 200000, kBins = 100;
  std::vector<int> bins(kBins, 0);
  for (int i = 0; i < kDraws; ++i) {
    const double u = sample_uniform(3, i / 1000, i / 100 % 10, i / 10 % 10, i % 10);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<int>(u * kBins)];
  }
  double chi = 0;
  for (int count : bins) chi += (count - 2000.0) * (count - 2000.0) / 2000.0;
  EXPECT_GT(chi, 99 - 5 * 14.1);
  EXPECT_LT(chi, 99 + 5 * 14.1);
}

TEST(KeyedPermutation, IsAPermutation) {
  for (int64_t n : {0, 1, 2, 3, 10, 1000}) {
    auto order = keyed_permutation(7, 0, 0, n);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(order[i], i);
    ASSERT_EQ(static_cast<int64_t>(order.size()), n);
  }
}

TEST(KeyedPermutation, DependsOnSeedTaskAndEpoch) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed : {0, 1})
    for (uint64_t task : {0, 1})
      for (uint64_t epoch : {0, 1}) orders.insert(keyed_permutation(seed, task, epoch, 50));
  EXPECT_EQ(orders.size(), 8u);
}

TEST(KeyedPermutation, AllOrdersAreEquallyLikely) {
  // 24,000 permutations of 4: each of the 24 expected 1,000 times; 23 degrees, deviation 6.8.
  std::map<std::vector<int64_t>, int> counts;
  for (int epoch = 0; epoch < 24000; ++epoch) ++counts[keyed_permutation(1, 0, epoch, 4)];
  ASSERT_EQ(counts.size(), 24u);
  double chi = 0;
  for (const auto& [order, count] : counts) chi += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi, 23 + 5 * 6.8);
  EXPECT_GT(chi, 3);
}

}  // namespace
}  // namespace svfleet
