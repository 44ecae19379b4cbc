#include "rl/paired_tests.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {
namespace {

McNemar of(int only_first, int only_second, int both = 3, int neither = 2) {
  std::vector<bool> first, second;
  const auto add = [&](int n, bool a, bool b) {
    first.insert(first.end(), n, a);
    second.insert(second.end(), n, b);
  };
  add(only_first, true, false);
  add(both, true, true);
  add(only_second, false, true);
  add(neither, false, false);
  const McNemar result = mcnemar(first, second);
  EXPECT_EQ(result.only_first, only_first);
  EXPECT_EQ(result.only_second, only_second);
  return result;
}

TEST(PairedTTest, PublishedValues) {
  // Student 1908, The probable error of a mean, Biometrika 6: hours of sleep gained by ten patients
  // from two drugs. t = 4.0621, p = 0.002833, 95 % interval 0.70 to 2.46 (the example of R's
  // t.test).
  const std::vector<double> one = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
  const std::vector<double> two = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
  const PairedT found = paired_t(one, two);
  EXPECT_NEAR(found.gain, 1.58, 1e-12);
  EXPECT_NEAR(found.low, 0.7001142, 1e-7);
  EXPECT_NEAR(found.high, 2.4598858, 1e-7);
  EXPECT_NEAR(found.p, 0.00283289, 1e-8);
  const PairedT back = paired_t(two, one);
  EXPECT_NEAR(back.gain, -1.58, 1e-12);
  EXPECT_NEAR(back.low, -found.high, 1e-12);
  EXPECT_EQ(back.p, found.p);
}

TEST(PairedTTest, ClosedForms) {
  // One degree of freedom: T is Cauchy, so P(|T| > t) = 1 - 2 atan(t) / pi. Differences 1 and 3: t
  // = 2.
  const PairedT two = paired_t({0, 0}, {1, 3});
  EXPECT_NEAR(two.p, 1 - 2 * std::atan(2.0) / std::numbers::pi, 1e-13);
  EXPECT_NEAR(two.high, 2 + std::tan(0.95 * std::numbers::pi / 2), 1e-9);
  // Two: P(|T| > t) = 1 - t / sqrt(2 + t^2). Differences 0, 1, 2: t = sqrt(3).
  EXPECT_NEAR(paired_t({0, 0, 0}, {0, 1, 2}).p, 1 - std::sqrt(0.6), 1e-13);
  // Many: the normal distribution. 500,000 times 0 and 1: t = 1000; and of -1, 1 with a small gain.
  std::vector<double> first(100'000, 0), second(100'000);
  for (size_t i = 0; i < second.size(); ++i) second[i] = i % 2 ? 1 : -1;
  EXPECT_NEAR(paired_t(first, second).p, 1, 1e-12);
  for (size_t i = 0; i < second.size(); ++i) second[i] += 0.01;
  const PairedT many = paired_t(first, second);
  EXPECT_NEAR(many.p, std::erfc(std::sqrt(100'000.0) * 0.01 / std::numbers::sqrt2), 1e-5);
  EXPECT_NEAR(many.high - many.low, 2 * 1.959964 / std::sqrt(100'000.0), 1e-6);
}

TEST(PairedTTest, Ends) {
  EXPECT_EQ(paired_t({}, {}).p, 1);
  EXPECT_EQ(paired_t({0.5}, {0.5}).p, 1);
  EXPECT_EQ(paired_t({0.5}, {1}).p, 1);
  EXPECT_EQ(paired_t({0.1, 0.7, 0.2}, {0.1, 0.7, 0.2}).p, 1);
  EXPECT_EQ(paired_t({0, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}).p, 0.125);  // four of four
  EXPECT_THROW(paired_t({1}, {}), Error);
}

TEST(McNemarTest, ExactBinomials) {
  EXPECT_EQ(of(0, 0).p, 1);
  EXPECT_EQ(of(1, 0).p, 1);
  EXPECT_EQ(of(7, 7).p, 1);
  EXPECT_EQ(of(10, 11).p, 1);
  // Five of five: 2 / 2^5. Two of ten: 2 (1 + 10 + 45) / 2^10.
  EXPECT_NEAR(of(5, 0).p, 0.0625, 1e-14);
  EXPECT_NEAR(of(2, 8).p, 0.109375, 1e-14);
  EXPECT_NEAR(of(8, 2).p, 0.109375, 1e-14);
  // In exact rational arithmetic, rounded to a double.
  const struct {
    int first, second;
    double p;
  } rows[] = {{6, 16, 0.052478790283203125},     {59, 121, 4.434449263755176e-06},
              {150, 86, 3.715936139571442e-05},  {0, 40, 1.8189894035458565e-12},
              {200, 20, 1.5679017281470502e-38}, {20, 500, 3.6001638842021506e-121},
              {4900, 5100, 0.04658552770494739}};
  for (const auto& row : rows)
    EXPECT_NEAR(of(row.first, row.second).p / row.p, 1, 1e-10) << row.first << " " << row.second;
  // Items that both get right or wrong say nothing.
  EXPECT_EQ(of(2, 8, 0, 0).p, of(2, 8, 1000, 500).p);
}

TEST(McNemarTest, LargeCounts) {
  // A million disagreements: the normal approximation with continuity correction, z = 0.999.
  EXPECT_NEAR(of(500500, 499500).p, 0.317795, 1e-5);
  EXPECT_GE(of(1000000, 10).p, 0);
  EXPECT_LT(of(1000000, 10).p, 1e-300);
  EXPECT_THROW(mcnemar({true}, {true, false}), Error);
}

std::vector<int64_t> each_alone(size_t items) {
  std::vector<int64_t> clusters;
  for (size_t i = 0; i < items; ++i) clusters.push_back(int64_t(i));
  return clusters;
}

TEST(SignFlipsTest, DarwinsMaize) {
  // Fisher 1935, The Design of Experiments, section 21: heights of 15 pairs of plants, differences
  // in eighths of an inch. Of 32,768 signs 863 give a sum of 314 or more: p = 1726 / 32768.
  const std::vector<double> gains = {49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48};
  const SignFlips found = sign_flips(std::vector<double>(15, 0), gains, each_alone(15));
  EXPECT_EQ(found.p, 1726.0 / 32768);
  EXPECT_TRUE(found.exact);
  EXPECT_EQ(found.first_better, 2);
  EXPECT_EQ(found.second_better, 13);
}

// Items that only the first, and only the second, gets right, and ten that are alike.
SignFlips of_items(int only_first, int only_second) {
  std::vector<double> first, second;
  for (int i = 0; i < only_first + only_second + 10; ++i) {
    first.push_back(i < only_first || i % 2);
    second.push_back(i >= only_first && (i < only_first + only_second || i % 2));
    if (i < only_first) second.back() = 0;
    if (i >= only_first && i < only_first + only_second) first.back() = 0;
  }
  return sign_flips(first, second, each_alone(first.size()));
}

TEST(SignFlipsTest, OfSingleItemsIsMcNemars) {
  for (const auto& [a, b] : {std::pair(0, 0), {1, 0}, {5, 0}, {2, 8}, {8, 2}, {7, 7}, {4, 16}}) {
    EXPECT_NEAR(of_items(a, b).p, of(a, b).p, 1e-12) << a << " " << b;
    EXPECT_TRUE(of_items(a, b).exact);
  }
  // Drawn: within four standard errors, and never 0.
  for (const auto& [a, b] : {std::pair(6, 16), {30, 45}, {100, 130}, {59, 121}}) {
    const double p = of(a, b).p;
    EXPECT_NEAR(of_items(a, b).p, p, 4 * std::sqrt(p * (1 - p) / 20000) + 1.0 / 20001) << a;
    EXPECT_FALSE(of_items(a, b).exact);
  }
  EXPECT_EQ(of_items(0, 80).p, 1.0 / 20001);
}

TEST(SignFlipsTest, ClustersCountOnce) {
  // Five clusters of four items, all of them better: 2 / 2^5, not 2 / 2^20.
  std::vector<int64_t> clusters;
  for (int i = 0; i < 20; ++i) clusters.push_back(i / 4);
  EXPECT_EQ(sign_flips(std::vector<double>(20, 0), std::vector<double>(20, 1), clusters).p, 0.0625);
  EXPECT_THROW(sign_flips({1}, {1}, {}), Error);
}

// Where neither is better, p <= 0.05 must come in one of twenty comparisons; clusters of five items
// go together here.
TEST(SignFlipsTest, RejectsSeldomWhereNothingDiffers) {
  constexpr int kTimes = 400, kClusters = 18, kItems = 5;
  int by_clusters = 0, by_items = 0;
  for (int time = 0; time < kTimes; ++time) {
    std::vector<double> first(kClusters * kItems, 0), second;
    std::vector<int64_t> clusters;
    for (int c = 0; c < kClusters; ++c) {
      const auto uniform = [&](uint32_t draw) {
        return keyed_uniform(3, Stream::kInit, uint64_t(time), uint64_t(c), draw);
      };
      const double shift = uniform(9) - 0.5;
      for (uint32_t i = 0; i < kItems; ++i) {
        second.push_back(shift + 0.2 * (uniform(i) - 0.5));
        clusters.push_back(c);
      }
    }
    by_clusters += sign_flips(first, second, clusters).p <= 0.05;
    by_items += paired_t(first, second).p <= 0.05;
  }
  EXPECT_NEAR(by_clusters / double(kTimes), 0.05, 0.033);  // three standard errors
  EXPECT_GT(by_items / double(kTimes), 0.25);              // the control
}

TEST(HolmTest, KnownAnswers) {
  // Holm 1979 by hand: ordered 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling.
  const std::vector<double> adjusted = holm({0.01, 0.04, 0.03, 0.005});
  const std::vector<double> known = {0.03, 0.06, 0.06, 0.02};
  for (size_t i = 0; i < known.size(); ++i) EXPECT_NEAR(adjusted[i], known[i], 1e-15);
  EXPECT_EQ(holm({0.3}), std::vector<double>{0.3});
  EXPECT_EQ(holm({0.6, 0.6}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm({}).empty());
}

// Five comparisons in which nothing differs: one of them below 0.05 comes often, one below it by
// Holm seldom.
TEST(HolmTest, KeepsTheErrorOfTheFamily) {
  constexpr int kTimes = 4000;
  int plain = 0, adjusted = 0;
  for (int time = 0; time < kTimes; ++time) {
    std::vector<double> p;
    for (uint32_t i = 0; i < 5; ++i)
      p.push_back(keyed_uniform(5, Stream::kInit, uint64_t(time), 0, i));
    const auto one = [](const std::vector<double>& all) {
      for (const double x : all)
        if (x <= 0.05) return true;
      return false;
    };
    plain += one(p);
    adjusted += one(holm(p));
  }
  EXPECT_NEAR(plain / double(kTimes), 1 - std::pow(0.95, 5), 0.02);  // 0.226
  EXPECT_LT(adjusted / double(kTimes), 0.05 + 0.011);
}

}  // namespace
}  // namespace svfleet
