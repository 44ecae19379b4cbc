#include "rl/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {
namespace {

constexpr double kGrid = 1024;

// Rounded down, so that the sum stays where it may be.
Shares on_grid(Shares shares) {
  for (double& share : shares) share = std::floor(share * kGrid + 1e-9) / kGrid;
  return shares;
}

// Box and Muller's; uniforms are in [0, 1).
double keyed_normal(uint64_t seed, int generation, int candidate, size_t expert) {
  const auto uniform = [&](uint32_t half) {
    return keyed_uniform(seed, Stream::kMixture, uint64_t(generation), uint64_t(candidate),
                         uint32_t(2 * expert) + half);
  };
  return std::sqrt(-2 * std::log(1 - uniform(0))) * std::cos(2 * std::numbers::pi * uniform(1));
}

}  // namespace

Shares onto_simplex(Shares shares, double most) {
  const auto clipped_sum = [&](double less) {
    double sum = 0;
    for (const double share : shares) sum += std::max(0.0, share - less);
    return sum;
  };
  double less = 0;
  if (clipped_sum(0) > most) {
    Shares sorted = shares;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double sum = 0;
    for (size_t k = 0; k < sorted.size(); ++k) {
      sum += sorted[k];
      const double t = (sum - most) / double(k + 1);
      if (sorted[k] > t) less = t;
    }
  }
  for (double& share : shares) share = std::max(0.0, share - less);
  return shares;
}

bool better(const Fitness& a, const Fitness& b) {
  return a.score > b.score || (a.score == b.score && a.tie > b.tie);
}

CrossEntropy::CrossEntropy(const CrossEntropyOptions& options)
    : options_(options),
      mean_(size_t(options.experts), options.most / (options.experts + 1)),
      spread_(size_t(options.experts), options.most / 2) {
  SVFLEET_CHECK(options.experts > 0 && options.most > 0, options.experts, ", ", options.most);
  SVFLEET_CHECK(options.population > 0 && options.evaluations > 0, options.population, ", ",
                options.evaluations);
}

Shares CrossEntropy::drawn(int candidate) const {
  Shares shares(mean_.size());
  for (size_t k = 0; k < shares.size(); ++k)
    shares[k] = mean_[k] + spread_[k] * keyed_normal(options_.seed, generation_, candidate, k);
  return on_grid(onto_simplex(std::move(shares), options_.most));
}

std::vector<Shares> CrossEntropy::ask() const {
  std::vector<Shares> all;
  if (!ended_.empty()) return all;
  const size_t experts = mean_.size();
  if (generation_ == 0) {
    all.emplace_back(experts);
    for (size_t k = 0; k < experts; ++k) {
      Shares one(experts);
      one[k] = std::min(1.0, options_.most);
      all.push_back(on_grid(std::move(one)));
    }
    if (experts > 1)
      all.push_back(on_grid(Shares(experts, std::min(1.0, options_.most) / double(experts))));
  } else {
    all.push_back(on_grid(mean_));
  }
  while (int(all.size()) < options_.population) all.push_back(drawn(int(all.size())));
  // The base and the single experts are looked at whatever the budget.
  if (generation_ > 0 && int64_t(all.size()) > options_.evaluations - evaluations_)
    all.resize(size_t(options_.evaluations - evaluations_));
  return all;
}

void CrossEntropy::fit(const std::vector<Shares>& candidates, const std::vector<Fitness>& fitness) {
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return better(fitness[a], fitness[b]); });
  const size_t wanted =
      std::max<size_t>(2, size_t(std::lround(options_.elites * double(order.size()))));
  order.resize(std::min(wanted, order.size()));
  const double n = double(order.size()), kept = options_.smoothing;
  for (size_t k = 0; k < mean_.size(); ++k) {
    double mean = 0, squares = 0;
    for (const size_t c : order) mean += candidates[c][k] / n;
    for (const size_t c : order) squares += (candidates[c][k] - mean) * (candidates[c][k] - mean);
    mean_[k] = kept * mean_[k] + (1 - kept) * mean;
    spread_[k] = std::max(kept * spread_[k] + (1 - kept) * std::sqrt(squares / n),
                          options_.least_spread * options_.most);
  }
}

void CrossEntropy::tell(const std::vector<Fitness>& fitness) {
  const std::vector<Shares> candidates = ask();
  SVFLEET_CHECK(fitness.size() == candidates.size(), fitness.size(), " of ", candidates.size());
  bool improved = false;
  for (size_t c = 0; c < candidates.size(); ++c) {
    const bool first = best_.empty();
    if (!first && !better(fitness[c], best_fitness_)) continue;
    improved = improved || first || fitness[c].score > best_fitness_.score ||
               fitness[c].tie > best_fitness_.tie + options_.least_tie;
    best_ = candidates[c];
    best_fitness_ = fitness[c];
  }
  fit(candidates, fitness);
  evaluations_ += int64_t(candidates.size());
  ++generation_;
  since_better_ = improved ? 0 : since_better_ + 1;
  if (since_better_ >= options_.patience) ended_ = "no improvement";
  if (evaluations_ >= options_.evaluations) ended_ = "evaluations";
}

}  // namespace svfleet
