#include "rl/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::vector<float> floats(const json& values) {
  return values.get<std::vector<float>>();
}

AdamWOptions options_of(const json& c) {
  return {c["learning_rate"], c["beta1"], c["beta2"], c["epsilon"], c["weight_decay"]};
}

// Largest difference from a path of parameters over all steps; the moments at the end.
double largest_error(const AdamWOptions& options, const json& fixture, const json& path,
                     std::vector<float>* m, std::vector<float>* v) {
  std::vector<float> p = floats(fixture["start"]);
  m->assign(p.size(), 0);
  v->assign(p.size(), 0);
  double error = 0;
  for (size_t t = 0; t < fixture["gradients"].size(); ++t) {
    adamw_step(options, static_cast<int64_t>(t), p, *m, *v, floats(fixture["gradients"][t]));
    for (size_t i = 0; i < p.size(); ++i)
      error = std::max(error, std::abs(p[i] - path[t][i].get<double>()));
  }
  return error;
}

TEST(AdamW, AgreesWithTorch) {
  std::ifstream file(std::string(SVFLEET_SOURCE_DIR) + "/tests/rl/adamw_fixture.json");
  const json fixture = json::parse(file);
  // 20 roundings of |p| < 0.5 to float32 (2^-25 each), and as much again for the moments.
  const double tolerance = 20 * 2 * std::ldexp(1.0, -25);
  ASSERT_EQ(fixture["cases"].size(), 3u);
  for (const json& c : fixture["cases"]) {
    std::vector<float> m, v;
    EXPECT_LT(largest_error(options_of(c), fixture, c["float64"], &m, &v), tolerance);
    for (size_t i = 0; i < m.size(); ++i) {
      EXPECT_NEAR(m[i], c["m"][i].get<double>(), 1e-6 * std::abs(c["m"][i].get<double>()));
      EXPECT_NEAR(v[i], c["v"][i].get<double>(), 1e-6 * c["v"][i].get<double>());
    }
    EXPECT_LT(largest_error(options_of(c), fixture, c["float32"], &m, &v), 2 * tolerance);
    // Controls: each setting matters.
    for (int change = 0; change < 5; ++change) {
      AdamWOptions wrong = options_of(c);
      if (change == 0) wrong.weight_decay += 0.01;
      if (change == 1) wrong.beta1 = 0.85;
      if (change == 2) wrong.beta2 = 0.99;
      if (change == 3) wrong.epsilon *= 2;
      if (change == 4) wrong.learning_rate *= 1.001;
      EXPECT_GT(largest_error(wrong, fixture, c["float64"], &m, &v), 2 * tolerance) << change;
    }
  }
}

TEST(AdamW, TwoStepsByHand) {
  AdamWOptions options{.learning_rate = 0.1, .epsilon = 0};
  std::vector<float> p = {0, 1}, m = {0, 0}, v = {0, 0};
  // First step: both corrected moments are 1, so p moves by the learning rate.
  adamw_step(options, 0, p, m, v, std::vector<float>{1, 1});
  EXPECT_NEAR(p[0], -0.1, 1e-8);
  // m = 0.9 * 0.1 - 0.1 = -0.01, corrected by 0.19: -1/19; v corrected: 1.
  adamw_step(options, 1, p, m, v, std::vector<float>{-1, -1});
  EXPECT_NEAR(p[0], -0.1 + 0.1 / 19, 1e-7);
  EXPECT_NEAR(m[0], -0.01, 1e-8);
  EXPECT_NEAR(v[0], 0.001999, 1e-9);

  // Decay 0.5 at rate 0.1 takes 5 % of p in each step, before the same moves.
  options.weight_decay = 0.5;
  p = {1}, m = {0}, v = {0};
  adamw_step(options, 0, p, m, v, std::vector<float>{1});
  EXPECT_NEAR(p[0], 0.85, 1e-7);
  adamw_step(options, 1, p, m, v, std::vector<float>{-1});
  EXPECT_NEAR(p[0], 0.85 * 0.95 + 0.1 / 19, 1e-7);
}

TEST(AdamW, AnElementsBitsDoNotDependOnItsNeighbours) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> p(67), g(67), m(67), v(67);
  for (size_t i = 0; i < p.size(); ++i) {
    p[i] = normal(random), g[i] = normal(random), m[i] = normal(random);
    v[i] = std::abs(normal(random));
  }
  std::vector<float> all = p, all_m = m, all_v = v;
  adamw_step({.weight_decay = 0.1}, 5, all, all_m, all_v, g);
  for (size_t i = 0; i < p.size(); ++i) {
    const std::span one(&p[i], 1);
    adamw_step({.weight_decay = 0.1}, 5, one, {&m[i], 1}, {&v[i], 1}, {&g[i], 1});
    ASSERT_EQ(p[i], all[i]);
    ASSERT_EQ(m[i], all_m[i]);
    ASSERT_EQ(v[i], all_v[i]);
  }
  EXPECT_THROW(adamw_step({}, 0, p, m, v, std::vector<float>(3)), Error);
}

TEST(Clip, ToTheGlobalNorm) {
  std::vector<float> g = {3, -4, 0};
  EXPECT_EQ(global_norm(g), 5);
  EXPECT_EQ(clip_global_norm(g, 0), 5);
  EXPECT_EQ(clip_global_norm(g, 5), 5);
  EXPECT_EQ(g, (std::vector<float>{3, -4, 0}));
  EXPECT_EQ(clip_global_norm(g, 2.5), 5);
  EXPECT_EQ(g, (std::vector<float>{1.5, -2, 0}));
  // Squares that float32 cannot hold.
  EXPECT_NEAR(global_norm(std::vector<float>{3e30f, 4e30f}), 5e30, 1e24);
  g = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_TRUE(std::isnan(clip_global_norm(g, 0.5)));
  EXPECT_EQ(g[0], 1);
}

TEST(Schedule, ConstantAndCosineWithWarmUp) {
  EXPECT_EQ(schedule("constant"), Schedule::kConstant);
  EXPECT_EQ(schedule("cosine"), Schedule::kCosine);
  EXPECT_THROW(schedule("linear"), Error);
  EXPECT_EQ(schedule_factor(Schedule::kConstant, 7, 10, 0), 1);
  EXPECT_EQ(schedule_factor(Schedule::kCosine, 0, 100, 0), 1);
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 50, 100, 0), 0.5, 1e-15);
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 100, 100, 0), 0, 1e-15);
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 200, 100, 0), 0, 1e-15);
  // Four warm-up steps climb by fifths; the decay starts at full rate.
  for (int step = 0; step < 4; ++step)
    EXPECT_NEAR(schedule_factor(Schedule::kCosine, step, 104, 4), 0.2 * (step + 1), 1e-15);
  EXPECT_EQ(schedule_factor(Schedule::kCosine, 4, 104, 4), 1);
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 54, 104, 4), 0.5, 1e-15);
}

}  // namespace
}  // namespace svfleet
