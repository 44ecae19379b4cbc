#include "rl/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/rl/near.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

// Right, wrong, wrong, and right but cut by the length limit.
const std::vector<SampleOutcome> kSamples = {
    {1, 10, 2.0, true}, {0, 20, 0.0, true}, {0, 30, 1.0, true}, {1, 40, -1.0, false}};

TEST(Objective, ATruncatedReplyIsWrong) {
  const GroupObjective group = group_objective({}, kSamples);
  EXPECT_THAT(group.rewards, ElementsAre(1, -1, -1, -1));
  EXPECT_THAT(group.advantages, near({2, -2. / 3, -2. / 3, -2. / 3}));
  EXPECT_EQ(group.weights, group.advantages);
  EXPECT_EQ(group.counted, 4);
  EXPECT_EQ(group.tokens, 100);
  EXPECT_EQ(group.truncated, 1);
  EXPECT_EQ(group.score_sum, 1);
  EXPECT_TRUE(group.has_signal);
  EXPECT_FALSE(group.skipped);
}

TEST(Objective, ATruncatedReplyIsMasked) {
  ObjectiveOptions options;
  options.truncated = TruncatedRule::kMask;
  const GroupObjective group = group_objective(options, kSamples);
  // The baseline sees three: others' means are -1, 0, 0.
  EXPECT_THAT(group.advantages, near({2, -1, -1, 0}));
  EXPECT_THAT(group.counts, ElementsAre(true, true, true, false));
  EXPECT_EQ(group.weights[3], 0);
  EXPECT_EQ(group.counted, 3);
  EXPECT_EQ(group.tokens, 60);
  EXPECT_EQ(group.truncated, 1);
  EXPECT_EQ(group.score_sum, 1);
}

TEST(Objective, ATruncatedReplyIsScored) {
  ObjectiveOptions options;
  options.truncated = TruncatedRule::kScore;
  const GroupObjective group = group_objective(options, kSamples);
  EXPECT_THAT(group.advantages, near({4. / 3, -4. / 3, -4. / 3, 4. / 3}));
  EXPECT_EQ(group.score_sum, 2);
}

TEST(Objective, RewardsAreMappedAndDividedByTheStatedLength) {
  ObjectiveOptions options;
  options.reward_right = 3;
  options.reward_wrong = 1;
  options.token_length = 10;
  options.baseline = Baseline::kGroupMean;
  const std::vector<SampleOutcome> samples = {{0.5, 7, 0, true}, {1, 9, 0, true}};
  const GroupObjective group = group_objective(options, samples);
  EXPECT_THAT(group.rewards, ElementsAre(2, 3));
  EXPECT_THAT(group.advantages, near({-0.5, 0.5}));
  EXPECT_THAT(group.weights, near({-0.05, 0.05}));  // whatever the sample's own length
}

TEST(Objective, KlIsTakenFromTheRewardBeforeTheBaseline) {
  ObjectiveOptions options;
  options.kl_beta = 0.1;
  options.truncated = TruncatedRule::kScore;
  const GroupObjective group = group_objective(options, kSamples);
  EXPECT_THAT(group.rewards, near({0.8, -1, -1.1, 1.1}));
  // Others' means: (-1 - 1.1 + 1.1)/3, (0.8 - 1.1 + 1.1)/3, (0.8 - 1 + 1.1)/3, (0.8 - 1 - 1.1)/3.
  EXPECT_THAT(group.advantages, near({0.8 + 1. / 3, -1 - 0.8 / 3, -1.1 - 0.3, 1.1 + 1.3 / 3}));

  options.kl_in_reward = false;  // a loss of its own: the rewards are free of it
  EXPECT_THAT(group_objective(options, kSamples).rewards, ElementsAre(1, -1, -1, 1));
}

TEST(Objective, GroupsWithoutSignalAreSkippedOnlyWithoutKl) {
  const std::vector<SampleOutcome> all_wrong = {{0, 5, 0, true}, {0, 5, 0, true}};
  EXPECT_FALSE(group_objective({}, all_wrong).has_signal);
  EXPECT_TRUE(group_objective({}, all_wrong).skipped);
  ObjectiveOptions options;
  options.kl_beta = 0.1;
  EXPECT_FALSE(group_objective(options, all_wrong).has_signal);
  EXPECT_FALSE(group_objective(options, all_wrong).skipped);
  options.kl_in_reward = false;
  EXPECT_FALSE(group_objective(options, all_wrong).skipped);
  // The KL alone can be the signal.
  options.kl_in_reward = true;
  EXPECT_TRUE(group_objective(options, {{{0, 5, 0.5, true}, {0, 5, 0, true}}}).has_signal);
  // One sample left after masking has no baseline; none left is no error.
  options = {};
  options.truncated = TruncatedRule::kMask;
  EXPECT_TRUE(group_objective(options, {{{1, 5, 0, true}, {0, 5, 0, false}}}).skipped);
  EXPECT_EQ(group_objective(options, {{{1, 5, 0, false}, {0, 5, 0, false}}}).counted, 0);
}

TEST(Kl, HandWorked) {
  // d = ln 2 and -ln 2: k1 = 0, k2 = ln(2)^2, k3 = (1/2 - 1 + ln 2) + (2 - 1 - ln 2) = 1/2.
  const std::vector<float> policy = {-1, -2};
  const float ln2 = std::log(2.0f);
  const std::vector<float> base = {-1 - ln2, -2 + ln2};
  const KlEstimates kl = kl_estimates(policy, base);
  EXPECT_NEAR(kl.k1, 0, 1e-6);
  EXPECT_NEAR(kl.k2, 0.4804530, 1e-6);
  EXPECT_NEAR(kl.k3, 0.5, 1e-6);
  EXPECT_EQ(kl_estimates(policy, policy).k3, 0);
}

TEST(Kl, ExpectationsAreTheDivergence) {
  // Over a vocabulary of three, weighted by pi: E k1 = E k3 = KL, E k2 near it for close ones.
  const double pi[] = {0.5, 0.3, 0.2}, base[] = {0.45, 0.33, 0.22};
  double kl = 0, k1 = 0, k2 = 0, k3 = 0;
  for (int i = 0; i < 3; ++i) {
    kl += pi[i] * std::log(pi[i] / base[i]);
    const float lp = std::log(pi[i]), lb = std::log(base[i]);
    const KlEstimates one = kl_estimates({&lp, 1}, {&lb, 1});
    k1 += pi[i] * one.k1;
    k2 += pi[i] * one.k2;
    k3 += pi[i] * one.k3;
  }
  EXPECT_NEAR(k1, kl, 1e-6);
  EXPECT_NEAR(k3, kl, 1e-6);
  EXPECT_NEAR(k2, kl, 0.05 * kl);
}

}  // namespace
}  // namespace svfleet
