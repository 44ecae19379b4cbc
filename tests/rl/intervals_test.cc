#include "rl/intervals.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {
namespace {

TEST(Wilson, PublishedValues) {
  // Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
  const struct {
    int64_t right, n;
    double low, high;
  } rows[] = {{81, 263, 0.2553, 0.3662},
              {15, 148, 0.0624, 0.1605},
              {0, 20, 0.0000, 0.1611},
              {1, 29, 0.0061, 0.1718}};
  for (const auto& row : rows) {
    const Interval interval = wilson(row.right, row.n);
    EXPECT_NEAR(interval.low, row.low, 5e-5) << row.right << "/" << row.n;
    EXPECT_NEAR(interval.high, row.high, 5e-5) << row.right << "/" << row.n;
    // Mirror: wrong answers instead of right ones.
    const Interval mirror = wilson(row.n - row.right, row.n);
    EXPECT_NEAR(mirror.low, 1 - interval.high, 1e-12);
    EXPECT_NEAR(mirror.high, 1 - interval.low, 1e-12);
  }
}

TEST(Wilson, EndsAndConfidence) {
  EXPECT_EQ(wilson(0, 0).low, 0);
  EXPECT_EQ(wilson(0, 0).high, 1);
  EXPECT_EQ(wilson(0, 7).low, 0);
  EXPECT_EQ(wilson(7, 7).high, 1);
  // 0 of n: high = z^2 / (n + z^2), with the quantiles of the usual tables.
  for (const auto& [confidence, z] : {std::pair(0.68268949213708585, 1.0),
                                      {0.90, 1.6448536269514722},
                                      {0.95, 1.9599639845400545},
                                      {0.99, 2.5758293035489004},
                                      {0.999999, 4.8916384756985904}})
    EXPECT_NEAR(wilson(0, 10, confidence).high, z * z / (10 + z * z), 1e-10) << confidence;
  EXPECT_NEAR(wilson(500'000'000, 1'000'000'000).high, 0.5 + 1.959964 / 2 / 31622.7766, 1e-9);
  EXPECT_THROW(wilson(3, 2), Error);
}

std::vector<int64_t> in_fours(int64_t clusters) {
  std::vector<int64_t> of;
  for (int64_t i = 0; i < 4 * clusters; ++i) of.push_back(i / 4);
  return of;
}

std::vector<int64_t> alone(size_t items) {
  std::vector<int64_t> of;
  for (size_t i = 0; i < items; ++i) of.push_back(int64_t(i));
  return of;
}

// The same formulas in plain Python with a generator of its own and 200,000 resamples (z0 0.0419, a
// 0.0382 for the first; -0.0022, -0.0025 for the second, whose clusters differ in size).
TEST(ClusterIntervals, AreThoseOfAnotherProgram) {
  const Column right{{1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0,
                      0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}};
  const Interval first = cluster_intervals({right}, in_fours(10))[0];
  EXPECT_NEAR(first.low, 0.1, 0.026);  // the distribution has steps of 0.025
  EXPECT_NEAR(first.high, 0.65, 0.026);
  Column scores;
  std::vector<int64_t> clusters;
  for (int64_t c = 0; c < 40; ++c)
    for (int64_t i = 0; i < 1 + c % 3; ++i) {
      scores.values.push_back(double(c % 5) / 4);
      clusters.push_back(c);
    }
  const Interval second = cluster_intervals({scores}, clusters)[0];
  EXPECT_NEAR(second.low, 0.37353, 0.008);
  EXPECT_NEAR(second.high, 0.61786, 0.008);
  // Several columns at once are each as alone, and a change of scale is one of the interval.
  Column moved{scores.values, -1};
  for (double& x : moved.values) x = 2 * x - 1;
  const auto both = cluster_intervals({scores, moved}, clusters);
  EXPECT_EQ(both[0].low, second.low);
  EXPECT_NEAR(both[1].high, 2 * second.high - 1, 1e-12);
}

TEST(ClusterIntervals, OfSingleItemsIsNearWilson) {
  Column right;
  for (int i = 0; i < 400; ++i) right.values.push_back(i % 10 < 3);
  const Interval own = cluster_intervals({right}, alone(400))[0], known = wilson(120, 400);
  EXPECT_NEAR(own.low, known.low, 0.006);
  EXPECT_NEAR(own.high, known.high, 0.006);
}

TEST(ClusterIntervals, WithoutSpreadIsWilsonOfTheClusters) {
  const Column all{std::vector<double>(40, 1)}, none{std::vector<double>(40, 0)};
  const auto found = cluster_intervals({all, none}, in_fours(10));
  EXPECT_NEAR(found[0].low, wilson(10, 10).low, 1e-12);
  EXPECT_EQ(found[0].high, 1);
  EXPECT_NEAR(found[1].high, wilson(0, 10).high, 1e-12);
  const Column lost{std::vector<double>(40, -1), -1};
  EXPECT_EQ(cluster_intervals({lost}, in_fours(10))[0].low, -1);
  EXPECT_NEAR(cluster_intervals({lost}, in_fours(10))[0].high, 2 * wilson(0, 10).high - 1, 1e-12);
  const Interval one = cluster_intervals({Column{{1}}}, {0})[0];
  EXPECT_NEAR(one.low, wilson(1, 1).low, 1e-12);
  EXPECT_EQ(cluster_intervals({Column()}, {})[0].high, 1);
  EXPECT_THROW(cluster_intervals({all}, in_fours(3)), Error);
}

// How often 500 draws of clusters of eight items, each cluster with a chance of its own from 0 to
// 1, have the true share in their interval.
struct Coverage {
  double by_clusters = 0, by_items = 0;
};
Coverage covered(int64_t clusters) {
  constexpr int kTimes = 500, kItems = 8;
  const auto uniform = [](int time, int64_t cluster, uint32_t draw) {
    return keyed_uniform(11, Stream::kInit, uint64_t(time), uint64_t(cluster), draw);
  };
  Coverage share;
  for (int time = 0; time < kTimes; ++time) {
    Column right;
    std::vector<int64_t> of;
    int64_t count = 0;
    for (int64_t c = 0; c < clusters; ++c)
      for (uint32_t i = 0; i < kItems; ++i) {
        right.values.push_back(uniform(time, c, i) < uniform(time, c, kItems));
        of.push_back(c);
        count += right.values.back() > 0;
      }
    const auto holds = [](const Interval& interval) {
      return interval.low <= 0.5 && 0.5 <= interval.high;
    };
    share.by_clusters += holds(cluster_intervals({right}, of)[0]) / double(kTimes);
    share.by_items += holds(wilson(count, kItems * clusters)) / double(kTimes);
  }
  return share;
}

TEST(ClusterIntervals, CoverWhereItemsAreAlike) {
  // 95 % of 500 times, give or take three standard errors of 1 %.
  for (const int64_t clusters : {10, 40}) {
    const Coverage share = covered(clusters);
    EXPECT_NEAR(share.by_clusters, 0.95, 0.03) << clusters;
    EXPECT_LT(share.by_items, 0.8) << clusters;  // the control: as if all items were independent
  }
}

}  // namespace
}  // namespace svfleet
