// The search against functions whose best mixture is known, beside random search with as many
// evaluations; what keeps it alive, and what ends it.
#include "rl/cross_entropy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <set>

namespace svfleet {
namespace {

using Worth = std::function<Fitness(const Shares&)>;

double distance(const Shares& a, const Shares& b) {
  double sum = 0;
  for (size_t k = 0; k < a.size(); ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return std::sqrt(sum);
}

Worth peak(const Shares& at) {
  return [at](const Shares& shares) {
    const double d = distance(shares, at);
    return Fitness{-d * d};
  };
}

CrossEntropy search(const CrossEntropyOptions& options, const Worth& worth) {
  CrossEntropy method(options);
  while (true) {
    const std::vector<Shares> candidates = method.ask();
    if (candidates.empty()) return method;
    std::vector<Fitness> told;
    for (const Shares& shares : candidates) {
      EXPECT_LE(std::accumulate(shares.begin(), shares.end(), 0.0), options.most);
      EXPECT_GE(*std::min_element(shares.begin(), shares.end()), 0);
      told.push_back(worth(shares));
    }
    method.tell(told);
  }
}

// The best of as many mixtures drawn evenly from the simplex of base and experts.
Shares random_search(const CrossEntropyOptions& options, const Worth& worth) {
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> part;
  Shares best;
  for (int64_t i = 0; i < options.evaluations; ++i) {
    Shares shares(size_t(options.experts));
    double sum = part(random);
    for (double& share : shares) sum += share = part(random);
    for (double& share : shares) share *= options.most / sum;
    if (best.empty() || better(worth(shares), worth(best))) best = shares;
  }
  return best;
}

TEST(OntoSimplex, IsTheNearestPoint) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  for (int trial = 0; trial < 50; ++trial) {
    Shares from(4);
    for (double& share : from) share = normal(random);
    const Shares to = onto_simplex(from, 1);
    // Of a convex set: no direction to another of its points goes towards `from`.
    for (int other = 0; other < 200; ++other) {
      Shares point(4);
      for (double& share : point) share = std::abs(normal(random));
      const double sum = std::accumulate(point.begin(), point.end(), 0.0);
      const double to_sum = sum > 1 || other % 2 ? sum : 1;
      double along = 0;
      for (size_t k = 0; k < 4; ++k) along += (from[k] - to[k]) * (point[k] / to_sum - to[k]);
      EXPECT_LT(along, 1e-9);
    }
  }
  EXPECT_EQ(onto_simplex({0.25, 0.5}, 1), (Shares{0.25, 0.5}));
  EXPECT_EQ(onto_simplex({2, -1}, 1), (Shares{1, 0}));
}

TEST(CrossEntropy, FindsTheBestOfAConcaveFunctionWhereRandomSearchDoesNot) {
  const Shares inside = {0.1, 0.55, 0.05, 0.2, 0.02};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    CrossEntropyOptions options{.experts = 5, .seed = seed};
    const CrossEntropy found = search(options, peak(inside));
    options.evaluations = found.evaluations();
    const Shares drawn = random_search(options, peak(inside));
    EXPECT_LT(distance(found.best(), inside), 0.04) << seed;
    EXPECT_GT(distance(drawn, inside), 1.5 * distance(found.best(), inside)) << seed;  // control
  }
}

TEST(CrossEntropy, FindsCornersTheBaseAndWhatLiesBeyondTheSimplex) {
  CrossEntropyOptions options{.experts = 3};
  EXPECT_EQ(search(options, peak({-1, -1, -1})).best(), (Shares{0, 0, 0}));
  EXPECT_EQ(search(options, peak({0, 2, 0})).best(), (Shares{0, 1, 0}));
  const Shares beyond = {0.8, 0.7, 0};
  const Shares within = search(options, peak(beyond)).best();  // the nearest one
  EXPECT_LT(distance(within, {0.55, 0.45, 0}), 0.05);
  options.most = 2;
  EXPECT_LT(distance(search(options, peak(beyond)).best(), beyond), 0.05);
}

TEST(CrossEntropy, ATieBreakDecidesWhereScoresAreEqual) {
  const Shares at = {0.3, 0.4};
  const auto step = [&](bool with_tie) {
    return [=](const Shares& shares) {
      const double d = distance(shares, at);
      return Fitness{d < 0.5 ? 1.0 : 0.0, with_tie ? -d : 0};
    };
  };
  EXPECT_LT(distance(search({.experts = 2}, step(true)).best(), at), 0.04);
  EXPECT_GT(distance(search({.experts = 2}, step(false)).best(), at), 0.04);  // control
  EXPECT_TRUE(better({1, -5}, {0, 3}));
  EXPECT_TRUE(better({1, 2}, {1, 1}));
  EXPECT_FALSE(better({1, 2}, {1, 2}));
}

TEST(CrossEntropy, SpreadHasAFloor) {
  CrossEntropyOptions options{.experts = 2, .patience = 1000};
  // All elites of a generation are one point: the base is the best by far, and drawn again and
  // again.
  const auto base = peak({-9, -9});
  const CrossEntropy kept = search(options, base);
  for (const double spread : kept.spread()) EXPECT_GE(spread, 0.02);
  options.least_spread = 0;  // control: without it, nothing is left to search with
  const CrossEntropy lost = search(options, base);
  for (const double spread : lost.spread()) EXPECT_LT(spread, 1e-3);
}

TEST(CrossEntropy, EndsWhenNothingImprovesOrAllIsSpent) {
  const auto flat = [](const Shares&) { return Fitness{}; };
  CrossEntropyOptions options{.experts = 2, .patience = 3};
  const CrossEntropy early = search(options, flat);
  EXPECT_EQ(early.ended(), "no improvement");
  EXPECT_EQ(early.generations(), 4);        // the first is always better than nothing
  EXPECT_EQ(early.best(), (Shares{0, 0}));  // and where all is equal, the base is the best
  options.patience = 1000;
  options.evaluations = 100;
  const CrossEntropy spent = search(options, flat);
  EXPECT_EQ(spent.ended(), "evaluations");
  EXPECT_EQ(spent.evaluations(), 100);
  EXPECT_EQ(spent.generations(), 4);
}

TEST(CrossEntropy, IsAFunctionOfItsOptions) {
  const auto worth = peak({0.2, 0.6});
  const auto run = [&](uint64_t seed) { return search({.experts = 2, .seed = seed}, worth); };
  EXPECT_EQ(run(1).best(), run(1).best());
  EXPECT_EQ(run(1).mean(), run(1).mean());
  EXPECT_NE(run(1).mean(), run(2).mean());
}

}  // namespace
}  // namespace svfleet
