#include "rl/paired_tests.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"
#include "rl/distributions.h"

namespace svfleet {
namespace {

constexpr size_t kMostEnumerated = 20;
constexpr int64_t kDraws = 20'000;

// Signs of sums[i], sums[i + 1], ... with which the whole is at least `limit` away from 0.
int64_t as_large(const std::vector<double>& sums, size_t i, double whole, double limit) {
  if (i == sums.size()) return std::abs(whole) >= limit;
  return as_large(sums, i + 1, whole + sums[i], limit) +
         as_large(sums, i + 1, whole - sums[i], limit);
}

// The same of keyed draws.
int64_t as_large_of_draws(const std::vector<double>& sums, double limit) {
  constexpr size_t kBits = 53;  // of a uniform number
  int64_t count = 0;
  for (int64_t draw = 0; draw < kDraws; ++draw) {
    double whole = 0;
    uint64_t bits = 0;
    for (size_t i = 0; i < sums.size(); ++i, bits >>= 1) {
      if (i % kBits == 0)
        bits = uint64_t(keyed_uniform(0, Stream::kSignFlip, uint64_t(draw), i / kBits, 0) * 0x1p53);
      whole += bits & 1 ? sums[i] : -sums[i];
    }
    count += std::abs(whole) >= limit;
  }
  return count;
}

}  // namespace

McNemar mcnemar(const std::vector<bool>& first, const std::vector<bool>& second) {
  SVFLEET_CHECK(first.size() == second.size(), first.size(), " and ", second.size(), " items");
  McNemar result;
  for (size_t i = 0; i < first.size(); ++i) {
    result.only_first += first[i] && !second[i];
    result.only_second += second[i] && !first[i];
  }
  const auto n = static_cast<double>(result.only_first + result.only_second);
  const auto k = static_cast<double>(std::min(result.only_first, result.only_second));
  if (result.only_first == result.only_second) return result;
  // p = 2 P(X <= k), X ~ Binomial(n, 1/2). Largest term through lgamma, the rest by ratio, so that
  // nothing overflows and the sum stops where terms no longer count.
  double term = std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                         n * std::numbers::ln2);
  double sum = term;
  for (double i = k; i >= 1 && term > sum * 1e-18; --i) {
    term *= i / (n - i + 1);
    sum += term;
  }
  result.p = std::min(1.0, 2 * sum);
  return result;
}

PairedT paired_t(const std::vector<double>& first, const std::vector<double>& second) {
  SVFLEET_CHECK(first.size() == second.size(), first.size(), " and ", second.size(), " items");
  const auto n = static_cast<double>(first.size());
  if (first.empty()) return {};
  PairedT result;
  for (size_t i = 0; i < first.size(); ++i) result.gain += (second[i] - first[i]) / n;
  double squares = 0;
  for (size_t i = 0; i < first.size(); ++i)
    squares += std::pow(second[i] - first[i] - result.gain, 2);
  result.low = result.high = result.gain;
  if (squares < 1e-24) {  // rounding alone
    if (std::abs(result.gain) > 1e-12) result.p = std::min(1.0, std::exp2(1 - n));
    return result;
  }
  const double error = std::sqrt(squares / (n - 1) / n);
  const double half = t_quantile(0.05, n - 1) * error;
  result.low = result.gain - half;
  result.high = result.gain + half;
  result.p = t_tail(std::abs(result.gain) / error, n - 1);
  return result;
}

SignFlips sign_flips(const std::vector<double>& first, const std::vector<double>& second,
                     const std::vector<int64_t>& clusters) {
  SVFLEET_CHECK(first.size() == second.size() && first.size() == clusters.size(), first.size(),
                ", ", second.size(), " and ", clusters.size(), " items");
  std::vector<double> sums;  // by cluster
  for (size_t i = 0; i < first.size(); ++i) {
    sums.resize(std::max(sums.size(), size_t(clusters[i]) + 1), 0);
    sums[size_t(clusters[i])] += second[i] - first[i];
  }
  constexpr double kRounding = 1e-9;  // of sums of a few scores
  std::erase_if(sums, [](double sum) { return std::abs(sum) < kRounding; });
  SignFlips result;
  for (const double sum : sums) ++(sum > 0 ? result.second_better : result.first_better);
  if (sums.empty()) return result;
  const double whole = std::accumulate(sums.begin(), sums.end(), 0.0);
  const double limit = std::abs(whole) - kRounding * double(sums.size());
  result.exact = sums.size() <= kMostEnumerated;
  result.p = result.exact ? double(as_large(sums, 0, 0, limit)) / std::exp2(double(sums.size()))
                          : double(1 + as_large_of_draws(sums, limit)) / double(1 + kDraws);
  return result;
}

std::vector<double> holm(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, double(order.size() - i) * p[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

}  // namespace svfleet
