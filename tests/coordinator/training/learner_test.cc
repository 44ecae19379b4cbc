// What is learnt, from sums alone: what a step changes, what it leaves, and when it ends.
#include "coordinator/training/learner.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace svfleet {
namespace {

using testing::Each;
using testing::ElementsAre;

LearningRules rules() {
  LearningRules rules;
  rules.config.train.steps = 4;
  rules.config.train.prompts_per_step = 8;
  rules.config.train.checkpoint_every = 3;
  rules.config.train.validate_every = 2;
  rules.config.train.early_stop_after = 2;
  rules.config.train.max_nonfinite_steps = 2;
  rules.config.train.clip_norm = 0;
  rules.config.train.warmup_steps = 0;
  rules.optimizer.learning_rate = 0.1;
  Target target;
  target.rows = target.cols = 3;
  rules.core = Core({}, {target}, {{3, 2, 1}});
  return rules;
}

RunState start() {
  RunState state;
  state.p = state.m = state.v = {0, 0, 0};
  return state;
}

ChunkTally tally_of(int64_t counted, int64_t trained_groups = 1) {
  ChunkTally tally(1);
  tally.trained_groups = trained_groups;
  tally.by_task[0].counted = counted;
  return tally;
}

// AdamW's first step moves each parameter by the learning rate against its gradient's sign,
// g / (|g| + epsilon) times it; moments are (1 - beta) g and (1 - beta2) g^2, bias-corrected away.
TEST(Learner, TheFirstStepIsAdamWsOfTheMean) {
  Learner learner(rules(), start());
  const Update update = learner.take({true, {4, -8, 0}}, tally_of(16));
  EXPECT_TRUE(update.finite);
  EXPECT_DOUBLE_EQ(update.gradient_norm, std::sqrt(0.25 * 0.25 + 0.5 * 0.5));
  EXPECT_EQ(update.learning_rate, 0.1);
  const RunState& state = learner.state();
  EXPECT_NEAR(state.p[0], -0.1, 1e-6);
  EXPECT_NEAR(state.p[1], 0.1, 1e-6);
  EXPECT_EQ(state.p[2], 0);
  EXPECT_NEAR(state.m[0], 0.1 * 0.25, 1e-8);
  EXPECT_NEAR(state.v[1], 0.001 * 0.25, 1e-8);
  EXPECT_NEAR(learner.z()[1], 1.1, 1e-6);
  EXPECT_EQ(state.step, 1);
  EXPECT_EQ(state.position, 8);
  EXPECT_EQ(state.updates, 1);
  // Sums twice as large of twice as many replies are the same step, bit for bit.
  Learner twice(rules(), start());
  twice.take({true, {8, -16, 0}}, tally_of(32));
  EXPECT_EQ(state_hash(twice.state()), state_hash(state));
  Learner other(rules(), start());  // control
  other.take({true, {8, -16, 1}}, tally_of(32));
  EXPECT_NE(state_hash(other.state()), state_hash(state));
}

TEST(Learner, WithoutASignalNothingMovesButTheStep) {
  for (const auto& [counted, groups] : {std::pair{16, 0}, {0, 1}}) {
    Learner learner(rules(), start());
    learner.take({true, {1, 1, 1}}, tally_of(counted, groups));
    EXPECT_THAT(learner.state().p, Each(0));
    EXPECT_EQ(learner.state().updates, 0);
    EXPECT_EQ(learner.state().step, 1);
    EXPECT_EQ(learner.state().nonfinite_total, 0);
  }
}

TEST(Learner, WhatIsNotFiniteIsLeftOutAndCounted) {
  Learner learner(rules(), start());
  EXPECT_FALSE(learner.take({false, {}}, tally_of(16)).finite);
  EXPECT_FALSE(learner.too_often_nonfinite());
  const double huge = std::numeric_limits<double>::max();  // finite, but not as a float
  EXPECT_FALSE(learner.take({true, {huge, 0, 0}}, tally_of(1)).finite);
  EXPECT_THAT(learner.state().p, ElementsAre(0, 0, 0));
  EXPECT_THAT(learner.state().m, ElementsAre(0, 0, 0));
  EXPECT_TRUE(learner.too_often_nonfinite());
  EXPECT_TRUE(learner.checkpoint_is_due());
  EXPECT_EQ(learner.state().nonfinite_in_a_row, 2);
  EXPECT_TRUE(learner.take({true, {1, 0, 0}}, tally_of(1)).finite);
  EXPECT_EQ(learner.state().nonfinite_in_a_row, 0);
  EXPECT_EQ(learner.state().nonfinite_total, 2);
}

// Fitness that is a known linear function of p: AdamW's first step goes up it.
TEST(Learner, EvolvesTowardsWhatIsFitter) {
  LearningRules evolving = rules();
  evolving.config.train.perturbation = 0.125;
  RunState begun = start();
  begun.p = {0.5f, 0, -0.25f};
  begun.seed = 3;
  Learner learner(evolving, begun);
  constexpr int64_t kMembers = 64;
  const auto z = learner.members(0, kMembers);
  const std::vector<float> centre = learner.z();
  std::vector<double> fitness;
  for (int64_t i = 0; i < kMembers; ++i) {
    for (size_t k = 0; k < 3; ++k) EXPECT_EQ(std::abs(z[size_t(i)][k] - centre[k]), 0.125f);
    EXPECT_EQ(z[size_t(i)][0] + z[size_t(i ^ 1)][0], 2 * centre[0]);
    fitness.push_back(double(z[size_t(i)][0]) - 10 * double(z[size_t(i)][2]));
  }
  EXPECT_EQ(learner.members(5, 2), std::vector(z.begin() + 5, z.begin() + 7));
  const Update update = learner.take(fitness);
  EXPECT_TRUE(update.finite);
  EXPECT_GT(update.gradient_norm, 0);
  EXPECT_EQ(update.learning_rate, 0.1);
  EXPECT_NEAR(learner.state().p[0], 0.6, 1e-5);
  EXPECT_NEAR(learner.state().p[2], -0.35, 1e-5);
  EXPECT_EQ(learner.state().step, 1);
  EXPECT_EQ(learner.state().position, 8);
  EXPECT_EQ(learner.state().updates, 1);
  EXPECT_NE(learner.members(0, 1)[0], z[0]);  // of another step: other signs too
  // Only the order of the fitness counts.
  Learner same(evolving, begun);
  for (double& one : fitness) one = 7 + 2 * one;
  same.take(fitness);
  EXPECT_EQ(state_hash(same.state()), state_hash(learner.state()));
}

TEST(Learner, APopulationWithoutASignalMovesNothing) {
  Learner learner(rules(), start());
  EXPECT_TRUE(learner.take(std::vector<double>{1, 1, 1, 1}).finite);
  EXPECT_EQ(learner.state().updates, 0);
  EXPECT_FALSE(learner.take(std::vector<double>{1, std::nan(""), 1, 0}).finite);
  EXPECT_THAT(learner.state().p, Each(0));
  EXPECT_EQ(learner.state().nonfinite_total, 1);
  EXPECT_EQ(learner.state().step, 2);
  EXPECT_TRUE(learner.take(std::vector<double>{3, 0, 1, 0}).finite);  // control
  EXPECT_EQ(learner.state().updates, 1);
  EXPECT_NE(learner.state().p[0], 0);
  // Both of each pair alike: neither stale momentum nor decay moves it.
  const std::vector<float> before = learner.state().p;
  EXPECT_TRUE(learner.take(std::vector<double>{1, 1, 0, 0}).finite);
  EXPECT_EQ(learner.state().updates, 1);
  EXPECT_EQ(learner.state().p, before);
}

TEST(Learner, ValidationChoosesAndEnds) {
  Learner learner(rules(), start());
  EXPECT_TRUE(learner.validated(0));  // better than none
  learner.take({true, {1, 0, 0}}, tally_of(1));
  EXPECT_FALSE(learner.validation_is_due());
  EXPECT_FALSE(learner.checkpoint_is_due());
  learner.take({true, {1, 0, 0}}, tally_of(1));
  EXPECT_TRUE(learner.validation_is_due());
  EXPECT_TRUE(learner.validated(0.5));
  EXPECT_EQ(learner.state().best_step, 2);
  EXPECT_TRUE(learner.checkpoint_is_due());  // of the best
  EXPECT_FALSE(learner.validated(0.5));      // no better
  EXPECT_FALSE(learner.finished());
  EXPECT_FALSE(learner.validated(0.25));
  EXPECT_TRUE(learner.finished());  // early_stop_after 2
  EXPECT_EQ(learner.state().best_score, 0.5);
}

TEST(Learner, EndsAfterItsSteps) {
  LearningRules four = rules();
  four.config.train.early_stop_after = 0;
  Learner learner(four, start());
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(learner.finished());
    learner.take({true, {1, 0, 0}}, tally_of(1));
    EXPECT_EQ(learner.checkpoint_is_due(), i >= 2);  // every 3 steps, and at the end
  }
  EXPECT_TRUE(learner.finished());
}

}  // namespace
}  // namespace svfleet
