#include "rl/answer.h"

#include <gtest/gtest.h>

#include "rl/number_parse.h"

namespace svfleet {
namespace {

RewardSpec reward(RewardKind kind, const std::string& pattern = "", bool match_only = false) {
  RewardSpec spec;
  spec.kind = kind;
  spec.pattern = pattern;
  spec.match_only = match_only;
  return spec;
}

std::optional<std::string> answer(const RewardSpec& spec, const std::string& reply,
                                  const Gold& gold = {}) {
  return parsed_answer({spec}, reply, gold);
}

TEST(Answer, OfNumbersIsTheirValue) {
  const RewardSpec spec = reward(RewardKind::kLastNumber);
  for (const char* reply : {"72", "It is 72.", "#### 72.0", "\\boxed{072}", "$72", "144/2 = 72"})
    EXPECT_EQ(answer(spec, reply), "72") << reply;
  for (const char* reply : {"0.5", ".50", "1/2", "\\frac{1}{2}", "½", "0.50000000001"})
    EXPECT_EQ(answer(spec, reply), "0.5") << reply;
  EXPECT_EQ(answer(spec, "1/3"), answer(spec, "0.33333333"));
  EXPECT_NE(answer(spec, "1/3"), answer(spec, "0.333"));
  EXPECT_NE(answer(spec, "7"), answer(spec, "-7"));
  EXPECT_EQ(answer(spec, "no number"), std::nullopt);
  EXPECT_EQ(answer(spec, "48/2 is 2^10"), std::nullopt);  // work left undone
  // All digits of whole numbers, which a double would make equal.
  EXPECT_NE(answer(spec, "98765432109876543210987"), answer(spec, "98765432109876543210988"));
  EXPECT_EQ(spelt_number("3.1449", 0.01), spelt_number("3.14", 0.01));
  EXPECT_NE(spelt_number("3.1449", 0), spelt_number("3.14", 0));
  EXPECT_EQ(spelt_number("-0.0000001", 1e-6), "0");
}

TEST(Answer, OfChoicesIsTheLabel) {
  const Gold gold{"B", {"A", "B"}, {"tin", "iron"}};
  const RewardSpec spec = reward(RewardKind::kMultipleChoice);
  for (const char* reply : {"B", "(b)", "The answer is B.", "iron", "B. iron"})
    EXPECT_EQ(answer(spec, reply, gold), "B") << reply;
  EXPECT_EQ(answer(spec, "A or B", gold), std::nullopt);
}

TEST(Answer, OfPatternsIsWhatIsFound) {
  const RewardSpec spec = reward(RewardKind::kRegex, "is (\\w+)");
  EXPECT_EQ(answer(spec, "It is Iron!"), "iron");
  EXPECT_EQ(answer(spec, "Iron"), std::nullopt);
  // Without a parser: the text.
  EXPECT_EQ(answer(reward(RewardKind::kRegex, "x", true), " Ax. "), "ax");
  EXPECT_EQ(answer(reward(RewardKind::kExact), " Iron  ORE."), "iron ore");
}

// A right reply has an answer, and it is the answer of other right replies.
TEST(Answer, ComesFromTheRewardThatParses) {
  const std::vector<RewardSpec> both = {reward(RewardKind::kRegex, "^-?\\d+$", true),
                                        reward(RewardKind::kLastNumber)};
  EXPECT_EQ(parsed_answer(both, "it is 5", {}), parsed_answer(both, "5", {}));
  EXPECT_EQ(parsed_answer(both, "five", {}), std::nullopt);
}

}  // namespace
}  // namespace svfleet
