#include "rl/evolution.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {

int perturbation_sign(const Perturbation& of, int64_t pair, int64_t parameter) {
  SVFLEET_CHECK(of.step >= 0 && pair >= 0 && parameter >= 0 && parameter < int64_t{1} << 32,
                of.step, ", ", pair, ", ", parameter);
  return keyed_uniform(of.seed, Stream::kPerturbation, uint64_t(of.step), uint64_t(pair),
                       uint32_t(parameter)) < 0.5
             ? -1
             : 1;
}

std::vector<float> member_of(const Perturbation& of, int64_t member, std::span<const float> p) {
  const double side = member % 2 ? -of.size : of.size;
  std::vector<float> moved(p.size());
  for (size_t i = 0; i < p.size(); ++i)
    moved[i] = float(double(p[i]) + side * perturbation_sign(of, member / 2, int64_t(i)));
  return moved;
}

std::vector<double> centred_ranks(std::span<const double> fitness) {
  const size_t count = fitness.size();
  SVFLEET_CHECK(count >= 2, count, " members");
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return fitness[a] < fitness[b]; });
  std::vector<double> ranks(count);
  for (size_t first = 0; first < count;) {
    size_t last = first;  // of those that are equal
    while (last + 1 < count && fitness[order[last + 1]] == fitness[order[first]]) ++last;
    // Twice their mean rank, less that of all: a whole number.
    const double doubled = double(first + last) - double(count - 1);
    for (size_t i = first; i <= last; ++i) ranks[order[i]] = doubled / (2 * double(count - 1));
    first = last + 1;
  }
  return ranks;
}

std::vector<float> evolution_gradient(const Perturbation& of, std::span<const double> utility,
                                      size_t parameters) {
  SVFLEET_CHECK(utility.size() >= 2 && utility.size() % 2 == 0, utility.size(), " members");
  std::vector<double> sum(parameters, 0);
  for (size_t pair = 0; pair < utility.size() / 2; ++pair) {
    const double gain = utility[2 * pair] - utility[2 * pair + 1];
    if (gain == 0) continue;
    for (size_t i = 0; i < parameters; ++i)
      sum[i] += gain * perturbation_sign(of, int64_t(pair), int64_t(i));
  }
  std::vector<float> gradient(parameters);
  for (size_t i = 0; i < parameters; ++i)
    gradient[i] = float(-sum[i] / (double(utility.size()) * of.size));
  return gradient;
}

FitnessSummary summary_of(std::span<const double> fitness) {
  SVFLEET_CHECK(fitness.size() >= 2, fitness.size(), " members");
  FitnessSummary summary;
  summary.min = summary.max = fitness[0];
  double sum = 0, squares = 0;
  for (size_t i = 0; i < fitness.size(); ++i) {
    summary.finite = summary.finite && std::isfinite(fitness[i]);
    sum += fitness[i];
    if (fitness[i] > summary.max) summary.max = fitness[i], summary.best = int64_t(i);
    summary.min = std::min(summary.min, fitness[i]);
    if (i % 2) summary.apart += fitness[i] != fitness[i - 1];
  }
  summary.mean = sum / double(fitness.size());
  for (const double one : fitness) squares += (one - summary.mean) * (one - summary.mean);
  summary.std = std::sqrt(squares / double(fitness.size()));
  return summary;
}

}  // namespace svfleet
