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

// I_x(a, b), the regularised incomplete beta function, by its continued fraction (Lentz's way;
// Press et al., Numerical Recipes, 6.4), which converges fast on this side of x.
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  const auto away_from_zero = [](double v) { return std::abs(v) < 1e-300 ? 1e-300 : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), sum = d;
  for (double m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    sum *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    sum *= c * d;
    if (std::abs(c * d - 1) < 1e-15) break;
  }
  return sum / a *
         std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) +
                  b * std::log1p(-x));
}

// P(|T| > t) of Student's t.
double t_tail(double t, double degrees) {
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

// t with P(|T| > t) = tail, by bisection.
double t_quantile(double tail, double degrees) {
  double low = 0, high = 1;
  while (t_tail(high, degrees) > tail) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (t_tail(middle, degrees) > tail ? low : high) = middle;
  }
  return high;
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

}  // namespace svfleet
