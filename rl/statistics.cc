#include "rl/statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "comm/error.h"

namespace svfleet {
namespace {

// x with P(|N(0,1)| <= x) = confidence, by Newton on erfc, which is convex there, so that
// the iteration climbs from 0 to the root without passing it.
double normal_quantile(double confidence) {
  const double tail = 1 - confidence;
  double x = 0;
  for (int i = 0; i < 200; ++i) {
    const double excess = std::erfc(x / std::numbers::sqrt2) - tail;
    const double slope = std::sqrt(2 / std::numbers::pi) * std::exp(-x * x / 2);
    const double next = x + excess / slope;
    if (!(std::abs(next - x) > 1e-14 * (1 + x))) return next;
    x = next;
  }
  return x;
}

}  // namespace

Interval wilson(int64_t right, int64_t n, double confidence) {
  SVFLEET_CHECK(right >= 0 && right <= n, right, " of ", n);
  SVFLEET_CHECK(confidence > 0 && confidence < 1, confidence);
  if (n == 0) return {};
  const double z = normal_quantile(confidence);
  const auto count = static_cast<double>(n);
  const double share = static_cast<double>(right) / count;
  const double scale = 1 + z * z / count;
  const double middle = (share + z * z / (2 * count)) / scale;
  const double half =
      z / scale * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  // At the ends the exact bounds are 0 and 1; rounding must not say otherwise.
  return {right == 0 ? 0 : std::max(0.0, middle - half),
          right == n ? 1 : std::min(1.0, middle + half)};
}

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

}  // namespace svfleet
