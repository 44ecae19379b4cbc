#include "svd/parametrisation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "comm/error.h"

namespace svfleet {
namespace {

const std::vector<Target> kTargets =
    choose_targets({"gate_proj", "down_proj"}, "0", 1, {{"gate_proj", 9, 5}, {"down_proj", 4, 9}});
const std::vector<std::vector<double>> kSigmas = {{5, 3, 2, 1, 0.5}, {4, 2, 1, 0}};

std::vector<float> random_p(float spread) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> p(9);
  for (float& x : p) x = normal(random);
  return p;
}

TEST(Parametrisation, ZeroIsTheBaseModel) {
  for (auto kind : {Parametrisation::kDirect, Parametrisation::kSigmoid})
    for (float z : z_of(kind, kTargets, std::vector<float>(9, 0), kSigmas)) EXPECT_EQ(z, 1.0f);
}

TEST(Parametrisation, SigmoidKeepsTheGain) {
  auto z = z_of(Parametrisation::kSigmoid, kTargets, random_p(1), kSigmas);
  for (const Target& t : kTargets) {
    double before = 0, after = 0;
    const auto& sigma = kSigmas[&t - kTargets.data()];
    for (size_t i = 0; i < sigma.size(); ++i) {
      before += sigma[i];
      after += sigma[i] * z[t.offset + i];
    }
    EXPECT_NEAR(after, before, 1e-5 * before);
  }
}

// An arbitrary smooth loss of z, so that dL/dp can be had by finite differences.
double loss(const std::vector<float>& z) {
  double sum = 0;
  for (size_t i = 0; i < z.size(); ++i) sum += std::sin(0.7 * double(i) + z[i]) * (1.0 + double(i));
  return sum;
}

TEST(Parametrisation, ChainAgreesWithFiniteDifferences) {
  for (auto kind : {Parametrisation::kDirect, Parametrisation::kSigmoid}) {
    std::vector<float> p = random_p(0.5), z = z_of(kind, kTargets, p, kSigmas);
    std::vector<double> dz(9);
    for (size_t i = 0; i < 9; ++i) dz[i] = std::cos(0.7 * double(i) + z[i]) * (1.0 + double(i));
    std::vector<float> dp = chain_to_p(kind, kTargets, p, dz, kSigmas);
    for (size_t i = 0; i < 9; ++i) {
      const float h = 1.0f / 64;  // p is float32: a large step, error h^2
      std::vector<float> up = p, down = p;
      up[i] += h, down[i] -= h;
      double slope =
          (loss(z_of(kind, kTargets, up, kSigmas)) - loss(z_of(kind, kTargets, down, kSigmas))) /
          (double(up[i]) - double(down[i]));
      EXPECT_NEAR(dp[i], slope, 1e-3 * (1 + std::abs(slope))) << i;
    }
  }
}

TEST(Parametrisation, GoesBackToP) {
  for (auto kind : {Parametrisation::kDirect, Parametrisation::kSigmoid}) {
    std::vector<float> z = z_of(kind, kTargets, random_p(0.3f), kSigmas);
    std::vector<float> again = z_of(kind, kTargets, p_of(kind, kTargets, z, kSigmas), kSigmas);
    for (size_t i = 0; i < 9; ++i) EXPECT_NEAR(again[i], z[i], 1e-5);
  }
  EXPECT_THROW(p_of(Parametrisation::kSigmoid, kTargets, std::vector<float>(9, 1.2f), kSigmas),
               Error);
  EXPECT_THROW(p_of(Parametrisation::kSigmoid, kTargets, std::vector<float>(9, -1), kSigmas),
               Error);
}

}  // namespace
}  // namespace svfleet
