// The exact sum against hand-worked values, against __int128 sums on a common scale, and against
// itself over orders, groupings and rank counts.
#include "comm/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "comm/error.h"
#include "tests/comm/world_main.h"

namespace svfleet {
namespace {

using Vectors = std::vector<std::vector<float>>;

ExactTotal sum_of(const Vectors& terms, const std::vector<int64_t>& ends, int64_t max_terms,
                  Group& group) {
  std::vector<std::span<const float>> spans(terms.begin(), terms.end());
  return exact_sum(spans, ends, max_terms, group, *make_host_reducer(group));
}

ExactTotal sum_alone(const Vectors& terms, const std::vector<int64_t>& ends, int64_t max_terms) {
  auto alone = make_single();
  return sum_of(terms, ends, max_terms, *alone);
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

Vectors random_terms(int count, int n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> power(-20, 10);
  Vectors terms(count, std::vector<float>(n));
  for (auto& term : terms)
    for (float& x : term) x = std::ldexp(normal(random), power(random));
  return terms;
}

// In whole numbers of 2^-60: exact but for what a term has below that. |x| must be below 2^60.
double true_sum(const Vectors& terms, int64_t i) {
  __int128 sum = 0;
  for (const auto& term : terms) {
    sum += static_cast<__int128>(std::ldexp(static_cast<long double>(term[i]), 60));
  }
  return static_cast<double>(std::ldexp(static_cast<long double>(sum), -60));
}

TEST(ExactSum, HandWorked) {
  const Vectors terms = {{1.5f, -2.0f, 0.0f}, {0.25f, 2.0f, -0.0f}, {-4.0f, 1e-3f, 0.0f}};
  const ExactTotal total = sum_alone(terms, {2, 3}, 3);
  ASSERT_TRUE(total.finite);
  EXPECT_EQ(total.sum, (std::vector<double>{-2.25, static_cast<double>(1e-3f), 0.0}));
}

TEST(ExactSum, WithinItsErrorBound) {
  for (const int count : {1, 2, 3, 17, 64, 100}) {
    const int n = 500;
    const std::vector<int64_t> ends = {100, 130, 500};
    const Vectors terms = random_terms(count, n, count);
    const ExactTotal total = sum_alone(terms, ends, count);
    int64_t i = 0;
    for (const int64_t end : ends) {
      float largest = 0;
      for (const auto& term : terms)
        for (int64_t j = i; j < end; ++j) largest = std::max(largest, std::fabs(term[j]));
      const int bits = 62 - static_cast<int>(std::ceil(std::log2(count)));
      // Half a unit of 2^(e-bits) a term, and the rounding of the result to double.
      const double unit = std::ldexp(2.0 * largest, -bits);
      for (; i < end; ++i) {
        const double truth = true_sum(terms, i);
        EXPECT_LE(
            std::fabs(total.sum[i] - truth),
            0.5 * count * unit + std::ldexp(std::fabs(truth), -53) + count * std::ldexp(1.0, -60))
            << count << " terms, at " << i;
      }
    }
  }
}

TEST(ExactSum, RoundsHalvesToEven) {
  const int64_t max_terms = int64_t{1} << 32;  // leaves 30 bits; 0.75 < 2^0 makes the unit 2^-30
  const float unit = std::ldexp(1.0f, -30);
  const Vectors terms = {
      {0.75f, 0.5f * unit, 1.5f * unit, -2.5f * unit, 0.75f * unit, 0.49f * unit}};
  const ExactTotal total = sum_alone(terms, {6}, max_terms);
  EXPECT_EQ(total.sum, (std::vector<double>{0.75, 0, 2.0 * unit, -2.0 * unit, unit, 0}));
}

TEST(ExactSum, EveryOrderGivesTheSameBitsAndFloatsDoNot) {
  const int count = 40, n = 200;
  Vectors terms = random_terms(count, n, 7);
  const std::vector<int64_t> ends = {n};
  const ExactTotal first = sum_alone(terms, ends, 64);
  auto in_floats = [&] {
    std::vector<float> sum(n, 0.0f);
    for (const auto& term : terms)
      for (int i = 0; i < n; ++i) sum[i] += term[i];
    return sum;
  };
  const std::vector<float> floats = in_floats();
  std::mt19937 random(1);
  bool floats_differ = false;
  for (int shuffle = 0; shuffle < 20; ++shuffle) {
    std::shuffle(terms.begin(), terms.end(), random);
    EXPECT_TRUE(same_bits(first.sum, sum_alone(terms, ends, 64).sum));
    floats_differ = floats_differ || in_floats() != floats;
  }
  EXPECT_TRUE(floats_differ);  // the control: otherwise this test shows nothing
}

// The assignment of terms to ranks, empty ranks included, changes no bit.
TEST(ExactSum, EveryGroupingOverRanksGivesTheSameBits) {
  const int n = 60, count = 6;
  const Vectors terms = random_terms(count, n, 3);
  const std::vector<int64_t> ends = {20, 20, 60};
  const ExactTotal truth = sum_alone(terms, ends, count);
  const int size = world().size();
  int groupings = 1;
  for (int i = 0; i < count; ++i) groupings *= size;
  const int step = std::max(1, groupings / 64);  // of 4096 at four ranks, every 64th and a shift
  for (int g = 0; g < groupings; g += step + (step > 1)) {
    Vectors mine;
    for (int i = 0, code = g; i < count; ++i, code /= size)
      if (code % size == world().rank()) mine.push_back(terms[i]);
    const ExactTotal total = sum_of(mine, ends, count, world());
    EXPECT_TRUE(same_bits(truth.sum, total.sum)) << "grouping " << g;
  }
}

TEST(ExactSum, SubnormalsAndZeros) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const Vectors terms = {{tiny, 0.0f, 3 * tiny, -0.0f}, {tiny, 0.0f, -tiny, 0.0f}};
  const ExactTotal total = sum_alone(terms, {1, 2, 4}, 1000);
  const double unit = std::ldexp(1.0, -149);
  EXPECT_EQ(total.sum, (std::vector<double>{2 * unit, 0.0, 2 * unit, 0.0}));
  EXPECT_FALSE(std::signbit(total.sum[1]));
}

TEST(ExactSum, HugeSpread) {
  const float largest = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  // In one segment the tiny one is below the unit; in its own segment it survives.
  const Vectors terms = {{largest, tiny, tiny}, {largest, 0.0f, tiny}, {-largest, 0.0f, 0.0f}};
  const ExactTotal total = sum_alone(terms, {2, 3}, 4);
  EXPECT_EQ(total.sum[0], static_cast<double>(largest));
  EXPECT_EQ(total.sum[1], 0.0);
  EXPECT_EQ(total.sum[2], std::ldexp(2.0, -149));
}

TEST(ExactSum, FullOfTheLargestDoesNotOverflow) {
  const float largest = std::numeric_limits<float>::max();
  for (const int count : {1, 2, 3, 4, 1024}) {
    const Vectors terms(count, std::vector<float>(2, -largest));
    const ExactTotal total = sum_alone(terms, {2}, count);
    EXPECT_EQ(total.sum[0], -count * static_cast<double>(largest));
  }
}

TEST(ExactSum, NotFiniteOnOneRankStopsAll) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    Vectors mine(1, std::vector<float>(3, 1.0f));
    if (world().rank() == world().size() - 1) mine[0][2] = bad;
    const ExactTotal total = sum_of(mine, {1, 3}, 8, world());
    EXPECT_FALSE(total.finite);
    EXPECT_TRUE(total.sum.empty());
  }
  const Vectors fine(1, std::vector<float>(3, 1.0f));
  EXPECT_TRUE(sum_of(fine, {1, 3}, 8, world()).finite);
}

TEST(ExactSum, TooManyTermsIsAnErrorOnAllRanks) {
  const int size = world().size();
  const Vectors two(2, std::vector<float>(2, 1.0f));
  try {
    sum_of(two, {2}, 2 * size - 1, world());
    ADD_FAILURE() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitInternal);
  }
  const ExactTotal enough = sum_of(two, {2}, 2 * size, world());
  EXPECT_EQ(enough.sum[0], 2.0 * size);
}

TEST(ExactSum, DifferentMaximaOnRanksAreAnError) {
  const Vectors one(1, std::vector<float>(1, 1.0f));
  const bool odd = world().size() > 1 && world().rank() == 0;
  auto run = [&] { return sum_of(one, {1}, odd ? 1024 : 8, world()).sum[0]; };
  if (world().size() > 1)
    EXPECT_THROW(run(), Error);
  else
    EXPECT_EQ(run(), 1.0);
}

TEST(ExactSum, NoTermsAndNoNumbers) {
  const ExactTotal zeros = sum_of({}, {2, 5}, 4, world());
  EXPECT_EQ(zeros.sum, std::vector<double>(5, 0.0));
  EXPECT_TRUE(sum_of({}, {}, 4, world()).sum.empty());
}

}  // namespace
}  // namespace svfleet
