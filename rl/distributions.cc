#include "rl/distributions.h"

#include <cmath>
#include <numbers>

namespace svfleet {
namespace {

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

}  // namespace

double normal_share(double x) {
  return std::erfc(-x / std::numbers::sqrt2) / 2;
}

// By Newton on erfc, which is convex there, so that
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

double t_tail(double t, double degrees) {
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

// By bisection.
double t_quantile(double tail, double degrees) {
  double low = 0, high = 1;
  while (t_tail(high, degrees) > tail) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (t_tail(middle, degrees) > tail ? low : high) = middle;
  }
  return high;
}

}  // namespace svfleet
