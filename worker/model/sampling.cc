#include "worker/model/sampling.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace svfleet {
namespace {

// The first token at which the running sum passes uniform * total; sums in float64, in this order.
template <class Order>
int draw(const float* probabilities, int64_t count, Order token, double uniform) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += probabilities[token(i)];
  const double goal = uniform * total;
  double sum = 0;
  int last = token(0);
  for (int64_t i = 0; i < count; ++i) {
    double p = probabilities[token(i)];
    if (p <= 0) continue;
    last = token(i);
    sum += p;
    if (sum > goal) return last;
  }
  return last;
}

}  // namespace

int most_likely(const float* values, int64_t n) {
  return int(std::max_element(values, values + n) - values);
}

int choose_token(const float* probabilities, int64_t n, const SamplingOptions& options,
                 double uniform) {
  if (options.top_k <= 0 && options.top_p >= 1 && options.min_p <= 0)
    return draw(
        probabilities, n, [](int64_t i) { return int(i); }, uniform);

  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return probabilities[a] > probabilities[b]; });
  int64_t kept = options.top_k > 0 ? std::min<int64_t>(options.top_k, n) : n;
  if (options.top_p < 1) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < kept; ++i) total += probabilities[order[i]];
    int64_t i = 0;
    // The token that reaches top_p stays in, as transformers does.
    while (i < kept && sum < options.top_p * total) sum += probabilities[order[i++]];
    kept = std::max<int64_t>(i, 1);
  }
  if (options.min_p > 0) {
    const double floor = options.min_p * probabilities[order[0]];
    while (kept > 1 && probabilities[order[kept - 1]] < floor) --kept;
  }
  return draw(
      probabilities, kept, [&](int64_t i) { return order[i]; }, uniform);
}

}  // namespace svfleet
