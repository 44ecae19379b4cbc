#include "worker/model/sampling.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace svfleet {
namespace {

const std::vector<float> kP = {0.1f, 0.4f, 0.05f, 0.25f, 0.2f};  // order: 1 3 4 0 2

std::set<int> reachable(const SamplingOptions& options) {
  std::set<int> tokens;
  for (int i = 0; i < 1000; ++i) tokens.insert(choose_token(kP.data(), 5, options, i / 1000.0));
  return tokens;
}

TEST(Sampling, InverseOfTheDistributionInTokenOrder) {
  SamplingOptions all;
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.0), 0);
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.0999), 0);
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.11), 1);
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.51), 2);
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.56), 3);
  EXPECT_EQ(choose_token(kP.data(), 5, all, 0.999999), 4);
}

TEST(Sampling, LimitsKeepWhatTheyShould) {
  EXPECT_EQ(reachable({}), (std::set<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(reachable({.top_k = 2}), (std::set<int>{1, 3}));
  EXPECT_EQ(reachable({.top_p = 0.6}), (std::set<int>{1, 3}));
  EXPECT_EQ(reachable({.top_p = 0.7}), (std::set<int>{1, 3, 4}));
  EXPECT_EQ(reachable({.top_p = 0.0}), (std::set<int>{1}));
  EXPECT_EQ(reachable({.min_p = 0.3}), (std::set<int>{1, 3, 4}));
  EXPECT_EQ(reachable({.top_k = 4, .top_p = 0.95, .min_p = 0.5}), (std::set<int>{1, 3, 4}));
}

TEST(Sampling, ImpossibleTokensAreNeverDrawn) {
  const std::vector<float> p = {0, 0.5f, 0, 0.5f, 0};
  for (double u : {0.0, 0.4999, 0.5, 0.9999999}) {
    int token = choose_token(p.data(), 5, {}, u);
    EXPECT_TRUE(token == 1 || token == 3);
  }
}

TEST(Sampling, MostLikelyTakesTheLowerIdOfATie) {
  const std::vector<float> p = {0.1f, 0.4f, 0.4f};
  EXPECT_EQ(most_likely(p.data(), 3), 1);
}

}  // namespace
}  // namespace svfleet
