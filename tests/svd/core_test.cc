// From parameters to coefficients and back: finite differences, ties, starts, and files.
#include "svd/core.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "comm/error.h"
#include "svd/core_expert.h"

namespace svfleet {
namespace {

// Right forms, left ones and one with sigma = 0.
const std::vector<Target> kOfCores =
    choose_targets({"k_proj", "v_proj", "down_proj"}, "0,1", 2,
                   {{"k_proj", 9, 5}, {"v_proj", 4, 9}, {"down_proj", 5, 9}});
const std::vector<std::vector<double>> kSigmaOfCores = {{5, 3, 2, 1, 0.5}, {4, 2, 1, 0},
                                                        {9, 8, 7, 1, 0.1}, {5, 3, 2, 1, 0.5},
                                                        {4, 2, 1, 0},      {9, 8, 7, 1, 0.1}};

std::vector<Core> all_cores() {
  std::vector<Core> cores;
  const auto add = [&](CoreOptions options) {
    cores.emplace_back(options, kOfCores, kSigmaOfCores);
  };
  add({});
  add({.parametrisation = Parametrisation::kSigmoid});
  add({.components = {Components::kTop, 3}});
  add({.components = {Components::kBottom, 3}});
  add({.kind = CoreKind::kBlock});
  add({.kind = CoreKind::kBlock, .components = {Components::kTop, 3}});
  add({.kind = CoreKind::kBlock, .components = {Components::kBottom, 2}});
  add({.kind = CoreKind::kTiny, .components = {Components::kTop, 2}, .numbers = 3});
  add({.kind = CoreKind::kTiny, .components = {Components::kTop, 2}, .numbers = 3, .tied = 2});
  add({.kind = CoreKind::kBias});
  add({.kind = CoreKind::kLora, .rank = 2, .alpha = 4});
  add({.kind = CoreKind::kIa3});
  return cores;
}

std::vector<float> random_numbers(size_t n, double spread, int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, spread);
  std::vector<float> values(n);
  for (float& x : values) x = float(normal(random));
  return values;
}

double loss(const std::vector<float>& c, const std::vector<double>& dc) {
  double sum = 0;
  for (size_t i = 0; i < c.size(); ++i) sum += dc[i] * double(c[i]);
  return sum;
}

// Of L = dc . c(p), by central differences; a control: against those of another p's neighbour.
TEST(Core, ChainToPIsThatOfFiniteDifferences) {
  for (const Core& core : all_cores()) {
    std::vector<float> p = core.start();
    const auto noise = random_numbers(p.size(), 0.3, 1);
    for (size_t i = 0; i < p.size(); ++i) p[i] += noise[i];
    const auto some = random_numbers(size_t(core.coefficients()), 1, 2);
    const std::vector<double> dc(some.begin(), some.end());
    const std::vector<float> dp = core.chain_to_p(p, dc);
    ASSERT_EQ(int64_t(dp.size()), core.parameters());
    double largest = 0, worst = 0, shifted = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      constexpr float kStep = 1.0f / 256;
      std::vector<float> up = p, down = p;
      up[i] += kStep, down[i] -= kStep;
      const double truth =
          (loss(core.coefficients_of(up), dc) - loss(core.coefficients_of(down), dc)) /
          (double(up[i]) - double(down[i]));
      worst = std::max(worst, std::abs(truth - dp[i]));
      shifted = std::max(shifted, std::abs(truth - dp[(i + 1) % dp.size()]));
      largest = std::max(largest, std::abs(truth));
    }
    EXPECT_LT(worst, 2e-3 * largest) << core_name(core.kind());
    EXPECT_GT(shifted, 0.1 * largest) << core_name(core.kind());  // control
  }
}

TEST(Core, StartsAtTheBase) {
  for (const Core& core : all_cores()) {
    const std::vector<float> c = core.coefficients_of(core.start());
    ASSERT_EQ(int64_t(c.size()), core.coefficients());
    for (size_t t = 0; t < kOfCores.size(); ++t) {
      const Core::Part part = core.part(t);
      // Of LoRA B alone.
      const int64_t from =
          core.kind() == CoreKind::kLora ? core.options().rank * kOfCores[t].cols : 0;
      for (int64_t i = from; i < part.length; ++i)
        EXPECT_EQ(c[size_t(part.offset + i)], core.at_rest());
    }
  }
}

TEST(Core, GivesPBackWhereItCan) {
  for (const Core& core : all_cores()) {
    if (core.options().parametrisation == Parametrisation::kSigmoid) continue;
    const std::vector<float> p = random_numbers(size_t(core.parameters()), 0.3, 1),
                             c = core.coefficients_of(p);
    if (core.kind() == CoreKind::kTiny) {
      EXPECT_THROW(core.p_of(c), Error);
      continue;
    }
    const std::vector<float> again = core.coefficients_of(core.p_of(c));
    for (size_t i = 0; i < c.size(); ++i) EXPECT_NEAR(again[i], c[i], 1e-5);
  }
  const Core few({.components = {Components::kTop, 3}}, kOfCores, kSigmaOfCores);
  std::vector<float> z(size_t(few.coefficients()), 1);
  EXPECT_NO_THROW(few.p_of(z));
  z[4] = 2;  // of the first matrix, not among its top 3
  EXPECT_THROW(few.p_of(z), Error);
}

// An expert of fewer matrices: those that it does not have must still be able to learn, which LoRA
// with A = B = 0 cannot.
TEST(Core, MatricesAtRestStartAsNewOnes) {
  const Core lora({.kind = CoreKind::kLora, .rank = 2, .alpha = 4}, kOfCores, {});
  std::vector<float> c(size_t(lora.coefficients()), 0);
  const Core::Part own = lora.part(1);
  const auto trained = random_numbers(size_t(own.length), 0.3, 1);
  std::copy(trained.begin(), trained.end(), c.begin() + own.offset);
  const std::vector<float> p = lora.p_of(c), start = lora.start();
  for (size_t i = 0; i < p.size(); ++i) {
    const bool has = int64_t(i) >= own.offset && int64_t(i) < own.offset + own.length;
    EXPECT_EQ(p[i], has ? c[i] : start[i]) << i;
  }
  EXPECT_NE(p, c);  // control: start() is not all 0
}

TEST(Core, HasAPlaceForEachMatrixOrForTiedOnes) {
  for (const Core& core : all_cores()) {
    int64_t offset = 0;
    for (const Core::Slot& slot : core.slots()) {
      EXPECT_EQ(slot.offset, offset);
      offset += slot.length;
    }
    EXPECT_EQ(offset, core.parameters());
    const bool tied = core.kind() == CoreKind::kTiny;
    EXPECT_EQ(core.slots().size(), !tied ? 6u : core.options().tied ? 3u : 1u);
  }
  EXPECT_EQ(Core({.components = {Components::kTop, 2}}, kOfCores, kSigmaOfCores).parameters(), 12);
  EXPECT_EQ(Core({.kind = CoreKind::kTiny, .components = {Components::kTop, 2}, .numbers = 13},
                 kOfCores, kSigmaOfCores)
                .parameters(),
            13);
}

TEST(Core, TopAndBottomAreOtherComponents) {
  const Core top({.components = {Components::kTop, 2}}, kOfCores, kSigmaOfCores),
      bottom({.components = {Components::kBottom, 2}}, kOfCores, kSigmaOfCores);
  const std::vector<float> p(12, 0.5f);
  const auto a = top.coefficients_of(p), b = bottom.coefficients_of(p);
  EXPECT_EQ(std::vector<float>(a.begin(), a.begin() + 5), (std::vector<float>{1.5, 1.5, 1, 1, 1}));
  EXPECT_EQ(std::vector<float>(b.begin(), b.begin() + 5), (std::vector<float>{1, 1, 1, 1.5, 1.5}));
}

TEST(Core, RandomNumbersAreKeyedBySeedAndPlace) {
  const CoreOptions lora{.kind = CoreKind::kLora, .rank = 2};
  CoreOptions other = lora;
  other.seed = 1;
  const Core one(lora, kOfCores, {}), again(lora, kOfCores, {}), two(other, kOfCores, {});
  EXPECT_EQ(one.start(), again.start());
  EXPECT_NE(one.start(), two.start());
  // Of a subset of the targets: the same numbers at the same matrices.
  const Core last(lora, {kOfCores.back()}, {});
  const std::vector<float> a = last.start(), all = one.start();
  EXPECT_TRUE(std::equal(a.begin(), a.end(), all.end() - int64_t(a.size())));
  std::set<float> different(all.begin(), all.end());
  EXPECT_EQ(different.size(), 2u * 2 * (5 + 9 + 9) + 1);  // all of A, and B's zero
  for (const float x : all) EXPECT_LE(std::abs(x), 1 / std::sqrt(5.0));
}

TEST(Core, ReadsComponents) {
  Components c;
  EXPECT_TRUE(read_components("all", &c) && c.which == Components::kAll);
  EXPECT_TRUE(read_components("top 64", &c) && c.which == Components::kTop && c.count == 64);
  EXPECT_TRUE(read_components("bottom 1", &c) && c.which == Components::kBottom);
  for (const char* text : {"", "top", "top ", "top 0", "top -1", "top 6x", "Top 6", "64"})
    EXPECT_FALSE(read_components(text, &c)) << text;
}

TEST(Core, IsNamedInItsExperts) {
  for (const Core& core : all_cores()) {
    const Expert expert = as_expert(core, random_numbers(size_t(core.coefficients()), 1, 3));
    const CoreOptions read = core_of(expert, "a");
    if (core.kind() == CoreKind::kDiagonal) {
      EXPECT_EQ(expert.core, "");
      continue;
    }
    // Of tiny: its blocks.
    EXPECT_EQ(read.kind, core.kind() == CoreKind::kTiny ? CoreKind::kBlock : core.kind());
    EXPECT_EQ(read.components, core.options().components);
    if (core.kind() == CoreKind::kLora) {
      EXPECT_EQ(read.rank, 2);
      EXPECT_EQ(read.alpha, 4);
    }
  }
  Expert unknown;
  unknown.core = "lora rank x";
  EXPECT_THROW(core_of(unknown, "a"), Error);
}

}  // namespace
}  // namespace svfleet
