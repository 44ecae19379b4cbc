#include "rl/advantage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/error.h"
#include "tests/rl/near.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

std::vector<double> of(Baseline baseline, std::vector<double> rewards) {
  return advantages(baseline, rewards);
}

TEST(Advantages, HandWorked) {
  // Others' means of (1, -1, -1, -1): -1 for the first, (1 - 1 - 1) / 3 for the rest.
  EXPECT_THAT(of(Baseline::kLeaveOneOut, {1, -1, -1, -1}), near({2, -2. / 3, -2. / 3, -2. / 3}));
  EXPECT_THAT(of(Baseline::kLeaveOneOut, {0.5, 1.5}), near({-1, 1}));
  EXPECT_THAT(of(Baseline::kGroupMean, {1, -1, -1, -1}), near({1.5, -0.5, -0.5, -0.5}));
  // Variance of (1, -1, -1, -1) about -0.5: (2.25 + 3 * 0.25) / 4 = 0.75.
  EXPECT_THAT(
      of(Baseline::kWhitened, {1, -1, -1, -1}),
      near({1.7320508075688772, -0.57735026918962576, -0.57735026918962576, -0.57735026918962576}));
  EXPECT_THAT(of(Baseline::kNone, {1, -1, 0.25}), ElementsAre(1, -1, 0.25));
}

TEST(Advantages, EqualRewardsAndGroupsOfOneAreNoSignal) {
  for (Baseline b : {Baseline::kLeaveOneOut, Baseline::kGroupMean, Baseline::kWhitened}) {
    // 0.1 is no binary fraction: the rounded mean of seven differs from it.
    EXPECT_FALSE(has_signal(of(b, std::vector<double>(7, 0.1))));
    EXPECT_FALSE(has_signal(of(b, {1})));
    EXPECT_TRUE(of(b, {}).empty());
    EXPECT_TRUE(has_signal(of(b, {0.1, 0.2})));
  }
  EXPECT_TRUE(has_signal(of(Baseline::kNone, {1, 1})));
  EXPECT_FALSE(has_signal(of(Baseline::kNone, {0, 0})));
}

TEST(Advantages, NamesRoundTrip) {
  for (const char* name : {"leave_one_out", "group_mean", "whitened", "none"})
    EXPECT_STREQ(baseline_name(baseline(name)), name);
  EXPECT_THROW(baseline("mean"), Error);
}

}  // namespace
}  // namespace svfleet
