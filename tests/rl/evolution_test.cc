// What a population tells of a gradient, against functions whose gradient is known.
#include "rl/evolution.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

using Function = std::function<double(const std::vector<double>&)>;

std::vector<double> some_numbers(size_t count, uint64_t seed) {
  std::vector<double> numbers(count);
  for (size_t i = 0; i < count; ++i)
    numbers[i] = 2 * keyed_uniform(seed, Stream::kProbe, 0, 0, uint32_t(i)) - 1;
  return numbers;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double cosine(const std::vector<float>& a, const std::vector<double>& b) {
  const std::vector<double> wide(a.begin(), a.end());
  return dot(wide, b) / std::sqrt(dot(wide, wide) * dot(b, b));
}

// Of f, of the members round 0. The float32 of a member is of no interest here: from the signs.
std::vector<double> values(const Perturbation& of, size_t members, size_t parameters,
                           const Function& f) {
  std::vector<double> found;
  for (size_t member = 0; member < members; ++member) {
    std::vector<double> p(parameters);
    for (size_t i = 0; i < parameters; ++i)
      p[i] = (member % 2 ? -of.size : of.size) *
             perturbation_sign(of, int64_t(member / 2), int64_t(i));
    found.push_back(f(p));
  }
  return found;
}

// Of as many members none of which is the mirror of another: those on one side of twice as many
// pairs, with 0 for the other.
std::vector<double> every_other(const std::vector<double>& all) {
  std::vector<double> some;
  for (size_t i = 0; i < all.size(); i += 2) some.push_back(all[i]);
  return some;
}
std::vector<double> between_zeros(const std::vector<double>& some) {
  std::vector<double> all;
  for (const double one : some) all.insert(all.end(), {one, 0});
  return all;
}

// The mean over a few steps of the cosine of -estimate with the gradient.
double mean_cosine(const std::vector<double>& gradient,
                   const std::function<std::vector<double>(const Perturbation&)>& utility) {
  double sum = 0;
  constexpr int kSteps = 6;
  for (int step = 0; step < kSteps; ++step) {
    const Perturbation of{7, step, 0.1};
    sum -= cosine(evolution_gradient(of, utility(of), gradient.size()), gradient);
  }
  return sum / kSteps;
}

TEST(Evolution, SignsAreKeyedAndBalanced) {
  const Perturbation of{3, 5, 0.1};
  int64_t sum = 0, with_next_pair = 0, with_next_step = 0, with_next = 0;
  constexpr int kPairs = 40, kParameters = 500;
  for (int pair = 0; pair < kPairs; ++pair)
    for (int i = 0; i < kParameters; ++i) {
      const int sign = perturbation_sign(of, pair, i);
      EXPECT_EQ(sign * sign, 1);
      EXPECT_EQ(sign, perturbation_sign({3, 5, 0.7}, pair, i));  // the size is no part of the key
      sum += sign;
      with_next_pair += sign * perturbation_sign(of, pair + 1, i);
      with_next_step += sign * perturbation_sign({3, 6, 0.1}, pair, i);
      with_next += sign * perturbation_sign(of, pair, i + 1);
    }
  const double most = 4 * std::sqrt(double(kPairs * kParameters));  // standard errors
  for (const int64_t each : {sum, with_next_pair, with_next_step, with_next})
    EXPECT_LT(std::abs(double(each)), most);
}

TEST(Evolution, MembersStandOnBothSides) {
  const std::vector<float> p{0, 0.5f, -0.25f};
  const Perturbation of{1, 0, 0.125};
  const std::vector<float> plus = member_of(of, 6, p), minus = member_of(of, 7, p);
  for (size_t i = 0; i < p.size(); ++i) {
    EXPECT_EQ(plus[i] - p[i], 0.125f * float(perturbation_sign(of, 3, int64_t(i))));
    EXPECT_EQ(plus[i] - p[i], p[i] - minus[i]);
  }
}

TEST(Evolution, EqualFitnessSharesARank) {
  EXPECT_THAT(centred_ranks(std::vector<double>{3, -1, 7, 5}),
              ElementsAre(-1.0 / 6, -0.5, 0.5, 1.0 / 6));
  EXPECT_THAT(centred_ranks(std::vector<double>{2, 2, 2, 2}), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(centred_ranks(std::vector<double>{1, 0, 1, 0, 1}),
              ElementsAre(0.25, -0.375, 0.25, -0.375, 0.25));
  // Neither scale nor constant counts.
  EXPECT_EQ(centred_ranks(std::vector<double>{3, -1, 7, 5}),
            centred_ranks(std::vector<double>{1300, 900, 1700, 1500}));
  EXPECT_THROW(centred_ranks(std::vector<double>{1}), Error);
}

TEST(Evolution, TheRecordSaysWhatThePopulationWas) {
  const FitnessSummary summary = summary_of(std::vector<double>{0, 1, -1, -1, 1, 0});
  EXPECT_EQ(summary.mean, 0);
  EXPECT_EQ(summary.min, -1);
  EXPECT_EQ(summary.max, 1);
  EXPECT_DOUBLE_EQ(summary.std, std::sqrt(4.0 / 6));
  EXPECT_EQ(summary.best, 1);
  EXPECT_EQ(summary.apart, 2);
  EXPECT_TRUE(summary.finite);
  EXPECT_FALSE(summary_of(std::vector<double>{0, std::nan("")}).finite);
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(summary_of(std::vector<double>{infinity, 0}).finite);
}

// A linear f: raw values give the gradient in expectation, length included.
TEST(Evolution, TheEstimateIsUnbiasedOnALinearFunction) {
  const std::vector<double> g = some_numbers(20, 1);
  std::vector<double> mean(g.size(), 0);
  constexpr int kSteps = 400, kMembers = 40;
  for (int step = 0; step < kSteps; ++step) {
    const Perturbation of{2, step, 0.1};
    const auto utility = values(of, kMembers, g.size(), [&](const auto& p) { return dot(g, p); });
    const std::vector<float> estimate = evolution_gradient(of, utility, g.size());
    for (size_t i = 0; i < g.size(); ++i) mean[i] -= double(estimate[i]) / kSteps;
  }
  const double error = 4 * std::sqrt(dot(g, g) / (kSteps * kMembers / 2));
  for (size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(mean[i], g[i], error);
}

// cos = sqrt(N / (N + d - 1)) of N pairs, exactly in the limit of many d; ranks are worth 3 / pi as
// many pairs (the squared correlation of a normal number with its rank).
TEST(Evolution, TheCosineRisesWithThePopulationAsPredicted) {
  constexpr size_t kParameters = 150;
  const std::vector<double> g = some_numbers(kParameters, 4);
  // A quadratic whose slope at 0 is g; a pair's difference does not see its curvature.
  const std::vector<double> h = some_numbers(kParameters, 5);
  const Function linear = [&](const auto& p) { return dot(g, p); };
  const Function quadratic = [&](const auto& p) { return dot(g, p) - 2 * dot(h, p) * dot(h, p); };
  double before = 0;
  for (const size_t pairs : {5, 20, 75, 300}) {
    const double n = double(pairs), d = double(kParameters) - 1;
    const double raw = std::sqrt(n / (n + d)), ranked = std::sqrt(n / (n + d * M_PI / 3));
    for (const Function& f : {linear, quadratic}) {
      const auto utility = [&](const Perturbation& of) {
        return values(of, 2 * pairs, kParameters, f);
      };
      EXPECT_NEAR(mean_cosine(g, utility), raw, 0.05) << pairs;
    }
    const double found = mean_cosine(g, [&](const Perturbation& of) {
      return centred_ranks(values(of, 2 * pairs, kParameters, linear));
    });
    EXPECT_NEAR(found, ranked, 0.05) << pairs;
    EXPECT_GT(found, before);
    before = found;
    // Control: fitness that is another member's.
    const double shuffled = mean_cosine(g, [&](const Perturbation& of) {
      const auto ranks = centred_ranks(values(of, 2 * pairs, kParameters, linear));
      std::vector<double> others(ranks.size());
      const auto order = keyed_permutation(9, 0, uint64_t(of.step), int64_t(ranks.size()));
      for (size_t i = 0; i < ranks.size(); ++i) others[i] = ranks[size_t(order[i])];
      return others;
    });
    EXPECT_LT(std::abs(shuffled), 0.15) << pairs;  // 4 standard errors of 6 steps
  }
}

// Without pairs a constant, and every even part, is noise that grows with it. Ranks take a constant
// away, but no even part.
TEST(Evolution, PairsCancelWhatIsEven) {
  constexpr size_t kParameters = 50, kMembers = 200;
  const std::vector<double> g = some_numbers(kParameters, 6), h = some_numbers(kParameters, 8);
  const Function lifted = [&](const auto& p) { return 100 + dot(g, p); };
  const Function curved = [&](const auto& p) { return dot(g, p) + 50 * dot(h, p) * dot(h, p); };
  const auto paired = [&](const Function& f, bool ranks) {
    return mean_cosine(g, [&](const Perturbation& of) {
      const auto found = values(of, kMembers, kParameters, f);
      return ranks ? centred_ranks(found) : found;
    });
  };
  const auto alone = [&](const Function& f, bool ranks) {
    return mean_cosine(g, [&](const Perturbation& of) {
      const auto found = every_other(values(of, 2 * kMembers, kParameters, f));
      return between_zeros(ranks ? centred_ranks(found) : found);
    });
  };
  const double predicted = std::sqrt(100.0 / 149);
  EXPECT_NEAR(paired(lifted, false), predicted, 0.05);
  EXPECT_LT(alone(lifted, false), 0.3);
  EXPECT_GT(alone(lifted, true), predicted);  // twice the directions, and ranks have no constant
  EXPECT_NEAR(paired(curved, false), predicted, 0.05);
  EXPECT_LT(alone(curved, false), paired(curved, false) - 0.2);
  EXPECT_LT(alone(curved, true), paired(curved, true) - 0.1);
}

TEST(Evolution, EqualPairsSayNothing) {
  const std::vector<float> none =
      evolution_gradient({1, 0, 0.1}, std::vector<double>{3, 3, 1, 1}, 9);
  EXPECT_THAT(none, testing::Each(0.0f));
  EXPECT_THROW(evolution_gradient({1, 0, 0.1}, std::vector<double>{1, 2, 3}, 9), Error);
}

}  // namespace
}  // namespace svfleet
