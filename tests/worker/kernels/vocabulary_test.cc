#include "worker/kernels/vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "tests/worker/kernels/every_kernels.h"

namespace svfleet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class W>
class Vocabulary : public testing::Test {};
using Wides = testing::Types<float, double>;
TYPED_TEST_SUITE(Vocabulary, Wides);

template <class W>
constexpr double kSmall = sizeof(W) == 4 ? 3e-6 : 1e-12;

// log softmax(l / T) in long double.
template <class W>
std::vector<double> log_softmax(const W* row, int64_t n, double temperature) {
  if (temperature <= 0) temperature = 1;
  const W max = *std::max_element(row, row + n);
  long double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += std::exp(((long double)(row[i]) - (long double)(max)) / temperature);
  std::vector<double> out(n);
  for (int64_t i = 0; i < n; ++i)
    out[i] = double(((long double)(row[i]) - (long double)(max)) / temperature - std::log(sum));
  return out;
}

template <class W>
RowSums<W> sums_of(const std::vector<W>& row, double temperature) {
  RowSums<W> out;
  vocabulary_sums<W>(row.data(), 1, int64_t(row.size()), temperature, true, &out, 1);
  return out;
}

TYPED_TEST(Vocabulary, SumsAreThoseOfSoftmax) {
  using W = TypeParam;
  for (int64_t n : {1, 2, 63, 64, 65, 300, 1000, 49152, 50257})
    for (double temperature : {1.0, 0.7, 2.5, 0.01, 0.0}) {
      auto row = normals<W>(n, 3, n);
      for (W& l : row) l += 20;
      const auto truth = log_softmax(row.data(), n, temperature);
      const auto sums = sums_of(row, temperature);
      double entropy = 0;
      for (double log_pi : truth) entropy -= std::exp(log_pi) * std::max(log_pi, -1e4);
      const double t = temperature > 0 ? temperature : 1;
      EXPECT_EQ(sums.max, *std::max_element(row.begin(), row.end()));
      EXPECT_NEAR(sums.log_sum, double(row[0]) / t - truth[0], kSmall<W> * 20 / t);
      EXPECT_NEAR(sums.entropy, entropy, kSmall<W> * 5 * (1 + entropy)) << n << " " << temperature;
      for (int64_t i = 0; i < n; i += 1 + n / 50)
        EXPECT_NEAR(log_prob(row.data(), i, temperature, sums), truth[i],
                    2e-6 + 1e-6 * std::abs(truth[i]))
            << n << " " << i;
      RowSums<W> without;
      vocabulary_sums<W>(row.data(), 1, n, temperature, false, &without, 1);
      EXPECT_EQ(without.entropy, 0);
      EXPECT_EQ(without.total, sums.total);
      if (n > 100 && t != 1) {
        EXPECT_GT(std::abs(sums.log_sum - sums_of(row, 1).log_sum), 0.01);
      }
    }
}

TYPED_TEST(Vocabulary, ProbabilitiesAreSoftmax) {
  using W = TypeParam;
  for (int64_t n : {1, 65, 1000}) {
    auto row = normals<W>(n, 3, 3);
    if (n > 1) row[1] = W(-kInfinity);
    const auto truth = log_softmax(row.data(), n, 0.8);
    std::vector<float> told(n);
    probabilities<W>(row.data(), n, 0.8, sums_of(row, 0.8), told.data());
    for (int64_t i = 0; i < n; ++i)
      EXPECT_NEAR(told[i], std::exp(truth[i]), 3e-6 * std::exp(truth[i]));
  }
}

TYPED_TEST(Vocabulary, DrawsWhereTheRunningSumPasses) {
  using W = TypeParam;
  for (int64_t n : {1, 5, 64, 131, 3000}) {
    auto row = normals<W>(n, 2, n + 1);
    for (int64_t i = 1; i < n; i += 3) row[i] = W(-kInfinity);
    for (double temperature : {1.0, 0.5}) {
      const auto truth = log_softmax(row.data(), n, temperature);
      const auto sums = sums_of(row, temperature);
      std::vector<double> uniforms = {0, 1e-300, 0.5, 1 - 1e-16};
      for (int i = 0; i < 500; ++i) uniforms.push_back((i + 0.5) / 500);
      for (double uniform : uniforms) {
        const int token = draw_token(row.data(), n, temperature, uniform, sums);
        ASSERT_TRUE(token >= 0 && token < n);
        ASSERT_GT(std::exp(truth[token]), 0) << uniform;
        double before = 0;
        for (int i = 0; i < token; ++i) before += std::exp(truth[i]);
        EXPECT_LE(before, uniform + 2e-6);
        EXPECT_GE(before + std::exp(truth[token]), uniform - 2e-6);
      }
    }
  }
}

TYPED_TEST(Vocabulary, PassesMeansToBeAbove) {
  using W = TypeParam;
  for (int64_t n : {64, 128}) {
    std::vector<W> row(n, W(2));
    const auto sums = sums_of(row, 1);
    for (int token = 0; token < n; ++token) {
      EXPECT_EQ(draw_token(row.data(), n, 1, token / double(n), sums), token);
      EXPECT_EQ(draw_token(row.data(), n, 1, (token + 0.99) / double(n), sums), token);
    }
    // Should rounding put the goal at the very end, it is the last token that can be drawn.
    std::fill(row.begin() + 40, row.end(), W(-kInfinity));
    EXPECT_EQ(draw_token(row.data(), n, 1, 1.0, sums_of(row, 1)), 39);
  }
}

TYPED_TEST(Vocabulary, DrawsAsOftenAsItSays) {
  using W = TypeParam;
  const int64_t n = 40, draws = 40000;
  const auto row = normals<W>(n, 1, 5);
  const auto truth = log_softmax(row.data(), n, 1);
  const auto sums = sums_of(row, 1);
  std::mt19937_64 random(9);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<int64_t> count(n);
  for (int64_t i = 0; i < draws; ++i) ++count[draw_token(row.data(), n, 1, uniform(random), sums)];
  double chi2 = 0, chi2_of_equal = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double expected = draws * std::exp(truth[i]), equal = double(draws) / n;
    chi2 += std::pow(count[i] - expected, 2) / expected;
    chi2_of_equal += std::pow(count[i] - equal, 2) / equal;
  }
  EXPECT_LT(chi2, 39 + 5 * std::sqrt(2 * 39.0));
  EXPECT_GT(chi2_of_equal, 1000);
}

TYPED_TEST(Vocabulary, TakesTheFirstLargestAtTemperatureZero) {
  using W = TypeParam;
  auto row = normals<W>(777, 1, 6);
  row[500] = row[90] = row[91] = 9;
  EXPECT_EQ(draw_token(row.data(), 777, 0.0, 0.999, sums_of(row, 0)), 90);
}

TYPED_TEST(Vocabulary, NearTemperatureZeroOnlyTheLargestIsDrawn) {
  using W = TypeParam;
  auto row = normals<W>(777, 1, 6);
  row[500] = 9;
  for (double temperature : {1e-3, 1e-30, 1e-300}) {
    const auto sums = sums_of(row, temperature);
    EXPECT_EQ(draw_token(row.data(), 777, temperature, 0.999, sums), 500);
    EXPECT_EQ(log_prob(row.data(), 500, temperature, sums), 0);
    EXPECT_EQ(sums.entropy, 0);
  }
}

TYPED_TEST(Vocabulary, TellsWhatIsNotFinite) {
  using W = TypeParam;
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    for (int64_t n : {1, 70, 1600})
      for (int kind = 0; kind < 3; ++kind) {
        auto row = normals<W>(n, 1, 7);
        if (kind == 0) row[n / 2] = W(NAN);
        if (kind == 1) row[n - 1] = W(kInfinity);
        if (kind == 2) std::fill(row.begin(), row.end(), W(-kInfinity));
        const auto sums = sums_of(row, 0.9);
        EXPECT_TRUE(std::isnan(sums.total) && std::isnan(sums.log_sum) && std::isnan(sums.entropy));
        for (double temperature : {0.0, 0.9}) {
          const int token = draw_token(row.data(), n, temperature, 0.7, sums);
          ASSERT_TRUE(token >= 0 && token < n);
          EXPECT_TRUE(std::isnan(log_prob(row.data(), token, temperature, sums)));
        }
      }
    auto row = normals<W>(70, 1, 7);
    row[3] = W(-kInfinity);
    const auto sums = sums_of(row, 0.9);
    EXPECT_TRUE(std::isfinite(sums.entropy) && std::isfinite(sums.total));
    EXPECT_EQ(log_prob(row.data(), 3, 0.9, sums), -INFINITY);
  }
}

// Everything about `rows` rows from `first` on, one row's bytes after the other.
template <class W>
std::vector<std::string> all_of_it(int64_t first, int64_t rows, int64_t n, int threads, int shift) {
  using T = std::conditional_t<sizeof(W) == 4, bf16, double>;
  const int64_t all = 24;
  const auto cut = [&](auto values) {
    values.erase(values.begin(), values.begin() + first * n);
    values.resize(rows * n);
    values.insert(values.begin(), shift, 0);
    return values;
  };
  const auto logits = cut(normals<W>(all * n, 3, 8)), base = cut(normals<W>(all * n, 3, 9));
  std::vector<RowSums<W>> sums(rows), base_sums(rows);
  vocabulary_sums<W>(logits.data() + shift, rows, n, 0.9, true, sums.data(), threads);
  vocabulary_sums<W>(base.data() + shift, rows, n, 0.9, false, base_sums.data(), threads);
  std::vector<int> labels(rows);
  std::vector<double> weights(rows), kl_weights(rows), kl(rows);
  for (int64_t row = 0; row < rows; ++row) {
    labels[row] = int((first + row) * 31 % n);
    weights[row] = 0.1 * double(first + row) - 1;
    kl_weights[row] = (first + row) % 3 * 0.05;
  }
  std::vector<T> d(rows * n + shift);
  loss_gradient<T>(logits.data() + shift, base.data() + shift, rows, n, 0.9, sums.data(),
                   base_sums.data(), labels.data(), weights.data(), kl_weights.data(),
                   d.data() + shift, threads, kl.data());
  std::vector<std::string> out;
  for (int64_t row = 0; row < rows; ++row) {
    const W* own = logits.data() + shift + row * n;
    const RowSums<W>& s = sums[row];
    std::vector<double> numbers = {double(s.max), s.total, s.log_sum, s.entropy, kl[row]};
    numbers.insert(numbers.end(), s.blocks, s.blocks + kVocabularyBlocks);
    for (double uniform : {0.1, 0.77}) {
      const int token = draw_token(own, n, 0.9, uniform, s);
      numbers.insert(numbers.end(), {double(token), log_prob(own, token, 0.9, s)});
    }
    std::vector<float> pi(n);
    probabilities<W>(own, n, 0.9, s, pi.data());
    out.push_back(
        bytes(numbers) + bytes(pi) +
        std::string(reinterpret_cast<const char*>(d.data() + shift + row * n), n * sizeof(T)));
  }
  return out;
}

TYPED_TEST(Vocabulary, HasTheSameBitsEverywhere) {
  using W = TypeParam;
  for (int64_t n : {3, 100, 2011}) {
    std::vector<std::string> truth;
    {
      const WithKernels plain(Kernels::kPlain);
      truth = all_of_it<W>(0, 24, n, 1, 0);
    }
    for (Kernels which : every_kernels()) {
      const WithKernels with(which);
      for (int threads : {1, 2, 3})
        EXPECT_EQ(all_of_it<W>(0, 24, n, threads, 0), truth) << n << " " << int(which);
      for (int64_t row : {0, 11, 23})
        EXPECT_EQ(all_of_it<W>(row, 1, n, 1, 1 + int(row) % 3)[0], truth[row]);
      EXPECT_NE(all_of_it<W>(1, 1, n, 1, 0)[0], truth[0]);
    }
  }
}

struct Case {
  double temperature, weight, kl_weight;
};

double divergence(const std::vector<double>& log_pi, const std::vector<double>& log_base) {
  double kl = 0;
  for (size_t i = 0; i < log_pi.size(); ++i)
    if (std::exp(log_pi[i]) > 0) kl += std::exp(log_pi[i]) * (log_pi[i] - log_base[i]);
  return kl;
}

// By central differences of the loss that the header states.
template <class W>
std::vector<double> gradient_truth(const std::vector<W>& logits, const std::vector<W>& base,
                                   int label, Case c) {
  const int64_t n = int64_t(logits.size());
  const auto log_base = log_softmax(base.data(), n, c.temperature);
  std::vector<double> wide(logits.begin(), logits.end()), out(n);
  const auto loss = [&] {
    const auto log_pi = log_softmax(wide.data(), n, c.temperature);
    return -c.weight * log_pi[label] + c.kl_weight * divergence(log_pi, log_base);
  };
  const double h = 1e-4;
  for (int64_t i = 0; i < n; ++i) {
    const double before = wide[i];
    wide[i] = before + h;
    const double above = loss();
    wide[i] = before - h;
    out[i] = (above - loss()) / (2 * h);
    wide[i] = before;
  }
  return out;
}

template <class T>
class LossGradient : public testing::Test {};
using Types = testing::Types<bf16, float, double>;
TYPED_TEST_SUITE(LossGradient, Types);

TYPED_TEST(LossGradient, IsTheSlopeOfTheLoss) {
  using T = TypeParam;
  using W = Wide<T>;
  for (int64_t n : {2, 90, 333})
    for (const Case& c : {Case{1, 1, 0}, Case{0.7, -2, 0}, Case{1, 0, 1}, Case{1.3, 0.5, 0.3}}) {
      auto logits = normals<W>(n, 2, 10), base = normals<W>(n, 2, 11);
      const int label = int(n) / 2;
      const auto sums = sums_of(logits, c.temperature), base_sums = sums_of(base, c.temperature);
      std::vector<T> d(n);
      double kl;
      loss_gradient<T>(logits.data(), base.data(), 1, n, c.temperature, &sums, &base_sums, &label,
                       &c.weight, &c.kl_weight, d.data(), 1, &kl);
      const auto truth = gradient_truth(logits, base, label, c);
      const double relative = sizeof(T) == 2 ? 0.0041 : sizeof(T) == 4 ? 2e-5 : 1e-6;
      for (int64_t i = 0; i < n; ++i)
        EXPECT_NEAR(widen(d[i]), truth[i], relative * std::abs(truth[i]) + 2e-7) << n << " " << i;
      if (c.kl_weight > 0) {
        EXPECT_NEAR(kl,
                    divergence(log_softmax(logits.data(), n, c.temperature),
                               log_softmax(base.data(), n, c.temperature)),
                    kSmall<W> * 5);
      }
      const auto other = gradient_truth(logits, base, 0, {c.temperature * 1.1, 1, c.kl_weight});
      double apart = 0;
      for (int64_t i = 0; i < n; ++i) apart = std::max(apart, std::abs(widen(d[i]) - other[i]));
      EXPECT_GT(apart, 0.05);
      if (c.kl_weight > 0) continue;
      std::vector<T> without(n);
      loss_gradient<T>(logits.data(), nullptr, 1, n, c.temperature, &sums, nullptr, &label,
                       &c.weight, nullptr, without.data(), 1);
      EXPECT_EQ(bytes(without), bytes(d));
    }
}

TYPED_TEST(LossGradient, KnowsHowFarALikelyLabelIsFromCertain) {
  using T = TypeParam;
  using W = Wide<T>;
  std::vector<W> logits(300, 0);
  logits[7] = 20;
  const auto sums = sums_of(logits, 1);
  const int label = 7;
  const double weight = 1;
  std::vector<T> d(300);
  loss_gradient<T>(logits.data(), nullptr, 1, 300, 1, &sums, nullptr, &label, &weight, nullptr,
                   d.data(), 1);
  const double missing = 299 * std::exp(-20.0) / (1 + 299 * std::exp(-20.0));
  // Half a unit in the last place of 1 is lost where a block's sum holds the label's 1.
  EXPECT_NEAR(widen(d[7]), -missing, 0.004 * missing + (sizeof(W) == 4 ? 6e-8 : 0));
}

TYPED_TEST(LossGradient, IsZeroWhereNothingIsAskedOrPossible) {
  using T = TypeParam;
  using W = Wide<T>;
  const int64_t n = 200;
  auto logits = normals<W>(2 * n, 1, 12), base = normals<W>(2 * n, 1, 13);
  logits[5] = W(NAN);
  logits[n + 9] = W(-kInfinity);
  logits[n + 10] = base[n + 10] = W(-kInfinity);
  std::vector<RowSums<W>> sums(2), base_sums(2);
  vocabulary_sums<W>(logits.data(), 2, n, 1, false, sums.data(), 1);
  vocabulary_sums<W>(base.data(), 2, n, 1, false, base_sums.data(), 1);
  const std::vector<int> labels = {3, 4};
  const std::vector<double> weights = {0, 1}, kl_weights = {0, 1};
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    std::vector<T> d(2 * n, narrow<T>(7));
    loss_gradient<T>(logits.data(), base.data(), 2, n, 1, sums.data(), base_sums.data(),
                     labels.data(), weights.data(), kl_weights.data(), d.data(), 1);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(widen(d[i]), 0);
      EXPECT_TRUE(std::isfinite(widen(d[n + i]))) << i;
    }
    EXPECT_EQ(widen(d[n + 9]), 0);
    EXPECT_EQ(widen(d[n + 10]), 0);
    EXPECT_NE(widen(d[n + 11]), 0);
    const double one = 1;
    loss_gradient<T>(logits.data(), nullptr, 1, n, 1, sums.data(), nullptr, labels.data(), &one,
                     nullptr, d.data(), 1);
    EXPECT_TRUE(std::isnan(widen(d[0])) && std::isnan(widen(d[3])));
  }
}

TYPED_TEST(LossGradient, HasNoPointWhereTheLabelIsNone) {
  using T = TypeParam;
  using W = Wide<T>;
  const auto logits = normals<W>(90, 1, 14);
  const auto sums = sums_of(logits, 1);
  const int label = -1;
  const double weight = 1;
  std::vector<T> d(90);
  loss_gradient<T>(logits.data(), nullptr, 1, 90, 1, &sums, nullptr, &label, &weight, nullptr,
                   d.data(), 1);
  double total = 0;
  for (T x : d) total += widen(x);
  EXPECT_NEAR(total, 1, 1e-3);
}

}  // namespace
}  // namespace svfleet
