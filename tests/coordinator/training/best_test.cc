// When validation's best counts no longer, and how a run that it ended is told.
#include "coordinator/training/best.h"

#include <gmock/gmock.h>

namespace svfleet {
namespace {

using ::testing::HasSubstr;

Config config(int rewards = 1) {
  Config config;
  config.train.steps = 25;
  config.train.early_stop_after = 3;
  TaskSpec task;
  task.rewards.resize(size_t(rewards));
  config.tasks = {task};
  return config;
}

RunState state(const std::string& validation) {
  RunState state;
  state.step = 15;
  state.best_step = 10;
  state.best_score = 0.8125;
  state.validations_since_best = 3;
  state.validation = validation;
  return state;
}

TEST(Best, StaysWhileValidationIsTheSame) {
  RunState same = state("A");
  EXPECT_EQ(forget_other_best("A", config(), same), "");
  EXPECT_EQ(same.best_step, 10);
  EXPECT_EQ(same.validations_since_best, 3);
}

TEST(Best, IsForgottenWithOtherItems) {
  RunState other = state("A");
  EXPECT_THAT(forget_other_best("B", config(), other), HasSubstr("0.812 after step 10"));
  EXPECT_EQ(other.best_step, -1);
  EXPECT_EQ(other.best_score, -1);
  EXPECT_EQ(other.validations_since_best, 0);
  EXPECT_EQ(other.validation, "B");
  EXPECT_EQ(forget_other_best("B", config(), other), "");
}

TEST(Best, OfARunMadeBeforeStaysWithOneReward) {
  RunState before = state("");
  EXPECT_EQ(forget_other_best("B", config(1), before), "");
  EXPECT_EQ(before.best_step, 10);
  EXPECT_EQ(before.validation, "B");  // from now on it is known
  before = state("");
  EXPECT_THAT(forget_other_best("B", config(2), before), HasSubstr("mean score"));
  EXPECT_EQ(before.best_step, -1);
}

TEST(Best, OfAFinishedRunOrWithoutValidationIsLeftAlone) {
  RunState finished = state("A");
  finished.step = 25;
  EXPECT_EQ(forget_other_best("B", config(), finished), "");
  EXPECT_EQ(finished.validation, "A");
  RunState never = state("A");
  EXPECT_EQ(forget_other_best("", config(), never), "");
  EXPECT_EQ(never.best_step, 10);
}

TEST(Best, EarlyStopIsToldWithWhatHoldsIt) {
  const RunState held = state("A");
  EXPECT_TRUE(is_finished(held, config()));
  EXPECT_EQ(how_it_finished(held, config()),
            "early_stop after 15 of 25 steps, best score 0.812 after step 10");
  EXPECT_EQ(last_words(held, config(), true, "b"),
            "already finished, early_stop after 15 of 25 steps, best score 0.812 after step 10: b "
            "(train.early_stop_after: 3 holds it there; with 0 it goes on)");
  Config without = config();
  without.train.early_stop_after = 0;
  EXPECT_FALSE(is_finished(held, without));
  RunState end = held;
  end.step = 25;
  EXPECT_EQ(how_it_finished(end, config()), "finished");
  EXPECT_EQ(last_words(end, config(), false, "b"), "finished after 25 steps: b");
}

}  // namespace
}  // namespace svfleet
