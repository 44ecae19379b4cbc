#include "rl/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "comm/error.h"

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

}  // namespace
}  // namespace svfleet
