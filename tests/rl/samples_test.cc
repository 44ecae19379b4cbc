#include "rl/samples.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comm/error.h"

namespace svfleet {
namespace {

TEST(PassAtK, ClosedForms) {
  EXPECT_NEAR(pass_at_k(5, 2, 2), 0.7, 1e-15);  // 1 - 3 / 10
  EXPECT_EQ(pass_at_k(5, 0, 5), 0);
  EXPECT_EQ(pass_at_k(5, 1, 5), 1);
  EXPECT_EQ(pass_at_k(5, 3, 3), 1);
  EXPECT_NEAR(pass_at_k(7, 3, 1), 3.0 / 7, 1e-15);
  // In exact rational arithmetic, rounded to a double.
  EXPECT_NEAR(pass_at_k(200, 10, 100), 0.9992289739372822, 1e-14);
  EXPECT_NEAR(pass_at_k(1000, 3, 500), 0.8753753753753754, 1e-14);
  EXPECT_NEAR(pass_at_k(64, 1, 32), 0.5, 1e-15);
  EXPECT_THROW(pass_at_k(4, 5, 1), Error);
  EXPECT_THROW(pass_at_k(4, 1, 5), Error);
}

// Over all that n samples may be, its mean is 1 - (1 - p)^k; that of 1 - (1 - c/n)^k is not.
TEST(PassAtK, IsUnbiased) {
  constexpr int64_t n = 10, k = 4;
  const double p = 0.15, truth = 1 - std::pow(1 - p, k);
  double mean = 0, plugged_in = 0;
  for (int64_t c = 0; c <= n; ++c) {
    const double chance = std::tgamma(n + 1) / std::tgamma(c + 1) / std::tgamma(n - c + 1) *
                          std::pow(p, c) * std::pow(1 - p, n - c);
    mean += chance * pass_at_k(n, c, k);
    plugged_in += chance * (1 - std::pow(1 - double(c) / n, k));
  }
  EXPECT_NEAR(mean, truth, 1e-13);
  EXPECT_LT(plugged_in, truth - 0.02);
}

// Every way to draw k samples, one at a time. `shared`: whether ties are, or go to the first.
double by_hand(const std::vector<AnswerVotes>& answers, int n, int k, bool shared = true) {
  std::vector<size_t> of;  // the answer of each sample; answers.size(): none
  for (size_t a = 0; a < answers.size(); ++a) of.insert(of.end(), size_t(answers[a].samples), a);
  of.resize(size_t(n), answers.size());
  double sum = 0, ways = 0;
  for (unsigned drawn = 0; drawn < 1u << n; ++drawn) {
    if (std::popcount(drawn) != k) continue;
    ++ways;
    std::vector<int> votes(answers.size() + 1, 0);
    for (int i = 0; i < n; ++i) votes[of[size_t(i)]] += drawn >> i & 1;
    int most = 0, tied = 0;
    double credit = 0;
    for (size_t a = 0; a < answers.size(); ++a) {
      if (votes[a] > most) most = votes[a], tied = 0, credit = 0;
      if (votes[a] == 0 || votes[a] < most || (tied > 0 && !shared)) continue;
      ++tied;
      credit += answers[a].credit;
    }
    if (tied > 0) sum += credit / tied;
  }
  return sum / ways;
}

TEST(MajorityAtK, IsTheMeanOverAllDraws) {
  const std::vector<std::vector<AnswerVotes>> cases = {
      {},
      {{3, 1}},
      {{4, 1}, {4, 0}},
      {{3, 1}, {4, 0}, {2, 0}},
      {{1, 0}, {1, 0}, {1, 1}, {1, 0}, {1, 0}, {1, 0}},
      {{2, 0.5}, {3, 1.0 / 3}, {2, 0}, {1, 1}},
      {{5, 1}, {5, 0}},
      {{9, 1}, {1, 0}},
      {{2, 1}, {2, 1}, {3, 0}, {3, 0}}};
  for (const auto& answers : cases)
    for (int k = 1; k <= 10; ++k)
      EXPECT_NEAR(majority_at_k(answers, 10, k), by_hand(answers, 10, k), 1e-12)
          << answers.size() << " answers, k " << k;
  // The control: a tie that goes to whoever comes first is something else.
  EXPECT_GT(by_hand(cases[2], 10, 2, false), majority_at_k(cases[2], 10, 2) + 0.1);
}

TEST(MajorityAtK, OneDrawIsTheShareOfRightOnes) {
  EXPECT_NEAR(majority_at_k({{30, 0.5}, {20, 0}, {10, 1}}, 100, 1), 0.25, 1e-13);
  EXPECT_EQ(majority_at_k({{5, 1}, {5, 0}}, 12, 12), 0.5);
}

TEST(MajorityAtK, LargeCounts) {
  // Summed over all counts in exact rational arithmetic by another program.
  EXPECT_NEAR(majority_at_k({{90, 1}, {70, 0}, {30, 1.0 / 3}}, 200, 16), 0.6753348181352437, 1e-12);
  EXPECT_NEAR(majority_at_k({{90, 1}, {100, 0}}, 200, 101), 0.23275173147367784, 1e-12);
  EXPECT_NEAR(majority_at_k({{20, 1}, {20, 0}, {20, 0}}, 64, 32), 1.0 / 3, 1e-12);
  EXPECT_NEAR(majority_at_k({{480, 1}, {500, 0}}, 1000, 500), 0.26162956694623685, 1e-10);
}

TEST(SampleCounts, ArePowersAndTheWhole) {
  EXPECT_EQ(sample_counts(1), (std::vector<int64_t>{1}));
  EXPECT_EQ(sample_counts(8), (std::vector<int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(sample_counts(10), (std::vector<int64_t>{1, 2, 4, 8, 10}));
}

}  // namespace
}  // namespace svfleet
