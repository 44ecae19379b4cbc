#include "rl/reward.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "comm/error.h"
#include "rl/normalise.h"
#include "rl/pattern.h"

namespace svfleet {
namespace {

RewardSpec spec(RewardKind kind, std::string pattern = "") {
  RewardSpec s;
  s.kind = kind;
  s.pattern = std::move(pattern);
  return s;
}

TEST(Reward, NamesRoundTrip) {
  for (const char* name :
       {"exact", "last_number", "multiple_choice", "regex", "random", "contains"})
    EXPECT_STREQ(reward_name(reward_kind(name)), name);
  try {
    reward_kind("lastnumber");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_NE(std::string(error.what()).find("last_number"), std::string::npos);
  }
}

TEST(Reward, ExactAfterNormalisation) {
  const RewardSpec exact = spec(RewardKind::kExact);
  const Gold paris{"Paris", {}, {}};
  for (const char* right :
       {"Paris", " paris.", "**PARIS**", "\"Paris\"", "\u201CParis\u201D\n", "(Paris)!"})
    EXPECT_EQ(score_reply(exact, right, paris), 1) << right;
  for (const char* wrong : {"", "Pari", "Paris, France", "The Paris", "Paris Paris"})
    EXPECT_EQ(score_reply(exact, wrong, paris), 0) << wrong;
  EXPECT_EQ(score_reply(exact, "New \n  York", {"new york", {}, {}}), 1);
  EXPECT_EQ(score_reply(exact, "-5", {"5", {}, {}}), 0);
  EXPECT_EQ(score_reply(exact, "?", {"?", {}, {}}), 1);
  EXPECT_EQ(score_reply(exact, "!", {"?", {}, {}}), 0);
  RewardSpec strict = exact;
  strict.ignore_case = false;
  EXPECT_EQ(score_reply(strict, "paris", paris), 0);
  EXPECT_EQ(score_reply(strict, "Paris.", paris), 1);
}

// Brackets round all of it are punctuation, one without its partner says something, as a decimal
// point does.
TEST(Reward, ExactKeepsWhatSaysSomething) {
  const RewardSpec exact = spec(RewardKind::kExact);
  const struct {
    const char *reply, *gold;
    bool right;
  } cases[] = {
      {"5", ".5", false},
      {".5", ".5", true},
      {"**.5**", ".5", true},
      {"...5", "5", true},
      {"5.", "5", true},
      {">3", "<3", false},
      {"<3.", "<3", true},
      {"3", "<3", false},
      {"[0, 1)", "(0, 1]", false},
      {"(0, 1].", "(0, 1]", true},
      {"<Paris>", "Paris", true},
      {"\"[(Paris)].\"", "Paris", true},
      {"(a) or (b)", "a) or (b", false},
      {"(a) or (b)", "(a) or (b)", true},
      {"f(x)", "f(x", false},
      {"f(x).", "f(x)", true},
      {"( )", "( )", true},
      // A bracket without its partner, of a remark or a list, where the answer has none.
      {"B)", "B", true},
      {"(B", "B", true},
      {"42.)", "42", true},
      {"42", "42)", false},
      {"<42", "42", false},
      {"f(x))", "f(x)", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(score_reply(exact, c.reply, {c.gold, {}, {}}), c.right) << c.reply << " " << c.gold;
  const RewardSpec contains = spec(RewardKind::kContains);
  EXPECT_EQ(score_reply(contains, "It is .5 m.", {".5", {}, {}}), 1);
  for (const char* wrong : {"It is 5 m.", "10.5", "0.5"})
    EXPECT_EQ(score_reply(contains, wrong, {".5", {}, {}}), 0) << wrong;
}

// Unicode's own rules, by hand: case folding, width, punctuation and blanks of all scripts.
TEST(Reward, ExactInAllScripts) {
  const RewardSpec exact = spec(RewardKind::kExact);
  const struct {
    const char *reply, *gold;
    bool right;
  } cases[] = {
      {"\u00C9T\u00C9", "\u00E9t\u00E9", true},    // ÉTÉ
      {"e\u0301te\u0301", "\u00E9t\u00E9", true},  // decomposed
      {"STRASSE", "Stra\u00DFe", true},
      {"\u039F\u0394\u039F\u03A3", "\u03BF\u03B4\u03BF\u03C2", true},  // final sigma
      {"\uFF21\uFF22\uFF23", "abc", true},                             // full width
      {"\uFF76", "\u30AB", true},                                      // half-width katakana
      {"\u300C\u5317\u4EAC\u300D\u3002", "\u5317\u4EAC", true},        // 「北京」。
      {"\u00ABParis\u00BB", "paris", true},
      {"\u00BFParis?", "Paris", true},
      {"\u3000Paris\u3000", "Paris", true},
      {"Pa\u200Bris", "Paris", true},
      {"1\uFF0C2", "1,2", true},
      {"5\u2030", "5", false},
      {"x\u00B2", "x2", false},
      {"\u00E9t\u00E9", "ete", false},
      {"\u00BD", "1", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(score_reply(exact, c.reply, {c.gold, {}, {}}), c.right) << c.reply << " " << c.gold;
  RewardSpec strict = exact;
  strict.ignore_case = false;
  EXPECT_EQ(score_reply(strict, "\u00C9t\u00E9", {"\u00E9t\u00E9", {}, {}}), 0);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "is (\\w+)"), "It is \u00C9T\u00C9",
                        {"\u00E9t\u00E9", {}, {}}),
            1);
}

TEST(Reward, ContainsWholeWords) {
  const RewardSpec contains = spec(RewardKind::kContains);
  const Gold paris{"Paris", {}, {}};
  for (const char* right : {"Paris", "It is PARIS, of course.", "(Paris)", "not-Paris", "Paris's"})
    EXPECT_EQ(score_reply(contains, right, paris), 1) << right;
  for (const char* wrong : {"", "Parisian", "comparis", "Pari s"})
    EXPECT_EQ(score_reply(contains, wrong, paris), 0) << wrong;
  const Gold five{"5", {}, {}};
  EXPECT_EQ(score_reply(contains, "It takes 5 days.", five), 1);
  for (const char* wrong : {"15", "5.3", "1,500", "-5", "5th"})
    EXPECT_EQ(score_reply(contains, wrong, five), 0) << wrong;
  // 东京 in a sentence without blanks.
  EXPECT_EQ(score_reply(contains, "\u5B83\u662F\u4E1C\u4EAC\u3002", {"\u4E1C\u4EAC", {}, {}}), 1);
  EXPECT_TRUE(needs_gold(contains));
  EXPECT_NE(gold_problem(contains, {"", {}, {}}), "");
}

TEST(Reward, OneOfSeveralRightAnswers) {
  const Gold gold{"red", {}, {}, {"blue", "7"}};
  for (const char* right : {"Red", "blue.", "7"})
    EXPECT_EQ(score_reply(spec(RewardKind::kExact), right, gold), 1) << right;
  EXPECT_EQ(score_reply(spec(RewardKind::kExact), "green", gold), 0);
  EXPECT_EQ(score_reply(spec(RewardKind::kContains), "It is blue", gold), 1);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "(\\w+)$"), "it is blue", gold), 1);
  EXPECT_EQ(score_reply(spec(RewardKind::kLastNumber), "so 8", {"7", {}, {}, {"8"}}), 1);
  EXPECT_NE(gold_problem(spec(RewardKind::kLastNumber), {"7", {}, {}, {"eight"}}), "");
  const Gold choice{"A", {"A", "B", "C"}, {"tin", "iron", "lead"}, {"C"}};
  EXPECT_EQ(score_reply(spec(RewardKind::kMultipleChoice), "lead", choice), 1);
  EXPECT_EQ(score_reply(spec(RewardKind::kMultipleChoice), "iron", choice), 0);
}

TEST(Reward, AFieldInAPatternIsRefused) {
  for (const char* bad : {"{a}", "is {answer}$", "x{question.stem}"})
    EXPECT_NE(pattern_problem(bad).find("no field is filled"), std::string::npos) << bad;
  for (const char* good : {"a{2}", "\\d{1,3}", "\\p{L}+", "\\{a\\}", "[{a}]", "\\x{41}", "x{,5}",
                           "\\Q{a}\\E", "(?<n>a)\\k{n}", "{}"})
    EXPECT_EQ(pattern_problem(good), "") << good;
}

TEST(Reward, LastNumberUsesTheTolerance) {
  RewardSpec number = spec(RewardKind::kLastNumber);
  const Gold gold{"#### 1,200", {}, {}};
  EXPECT_EQ(score_reply(number, "so $1,200.", gold), 1);
  EXPECT_EQ(score_reply(number, "1200.0000001", gold), 1);
  EXPECT_EQ(score_reply(number, "1200.1", gold), 0);
  EXPECT_EQ(score_reply(number, "1200 of 5", gold), 0);
  EXPECT_EQ(score_reply(number, "-1200", gold), 0);
  EXPECT_EQ(score_reply(number, "", gold), 0);
  number.tolerance = 0.5;
  EXPECT_EQ(score_reply(number, "1200.1", gold), 1);
}

TEST(Reward, MultipleChoice) {
  const RewardSpec choice = spec(RewardKind::kMultipleChoice);
  const Gold gold{"B", {"A", "B"}, {"tin", "iron"}};
  EXPECT_EQ(score_reply(choice, "Answer: B", gold), 1);
  EXPECT_EQ(score_reply(choice, "iron", gold), 1);
  EXPECT_EQ(score_reply(choice, "A", gold), 0);
  EXPECT_EQ(score_reply(choice, "A or B", gold), 0);
}

TEST(Reward, Regex) {
  const Gold gold{"apple", {}, {}};
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "is (\\w+)"), "It is Apple!", gold), 1);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "is (\\w+)"), "It is a pear", gold), 0);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "a\\w+"), "an apple", gold), 0);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "ap\\w+"), "an apple", gold), 1);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "x|(y)"), "x", gold), 0);
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "^\\p{L}+$"), "\u00e9t\u00e9",
                        {"\u00e9t\u00e9", {}, {}}),
            1);
  RewardSpec match = spec(RewardKind::kRegex, "^\\d{3}$");
  match.match_only = true;
  EXPECT_EQ(score_reply(match, "123", {}), 1);
  EXPECT_EQ(score_reply(match, "1234", {}), 0);
  EXPECT_FALSE(needs_gold(match));
  // Bytes that are not UTF-8 are passed over, not an error.
  EXPECT_EQ(score_reply(spec(RewardKind::kRegex, "ap\\w+"), "\xff\xfe apple", gold), 1);
  EXPECT_EQ(score_reply(match, "", {}), 0);
}

// Neither a hang nor an error: the same reply comes again at every restart, so an error would end
// the run for ever.
TEST(Reward, ACatastrophicPatternDoesNotMatchAndDoesNotHang) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(find_pattern("^(a+)+$", std::string(5000, 'a') + "b"));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 10);
  // Control: the same pattern on a reply that it matches.
  EXPECT_TRUE(find_pattern("^(a+)+$", "aaaa"));
}

TEST(Reward, PatternsAreSharedByThreads) {
  std::vector<std::thread> threads;
  std::vector<int> right(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const std::vector<std::string> patterns = {"a=(\\d)", "b=(\\d)", "c=(\\d)"};
      const std::string digit = std::to_string(t);
      for (int i = 0; i < 200; ++i) {
        std::string text = patterns[i % 3].substr(0, 2);
        text += digit;
        right[t] += find_pattern(patterns[i % 3], text) == digit;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 200));
}

TEST(Reward, RandomIsAFairCoinOfReplyGoldAndSeed) {
  RewardSpec coin = spec(RewardKind::kRandom);
  const int n = 4000;
  int heads = 0, with_seed = 0, with_gold = 0;
  for (int i = 0; i < n; ++i) {
    const std::string reply = "reply " + std::to_string(i);
    const double score = score_reply(coin, reply, {"1", {}, {}});
    ASSERT_EQ(score, score_reply(coin, reply, {"1", {}, {}}));
    heads += score == 1;
    with_gold += score == score_reply(coin, reply, {"2", {}, {}});
    RewardSpec other = coin;
    other.seed = 1;
    with_seed += score == score_reply(other, reply, {"1", {}, {}});
  }
  // Half of them, within five deviations of 31.6.
  for (int count : {heads, with_gold, with_seed}) EXPECT_NEAR(count, n / 2, 158);
}

TEST(Reward, SeveralAreAveragedByWeight) {
  RewardSpec number = spec(RewardKind::kLastNumber);
  number.weight = 3;
  RewardSpec form = spec(RewardKind::kRegex, "^\\d+$");
  form.match_only = true;
  const std::vector<RewardSpec> both = {number, form};
  const Gold gold{"7", {}, {}};
  EXPECT_EQ(score_reply(both, "7", gold), 1);
  EXPECT_EQ(score_reply(both, "It is 7", gold), 0.75);
  EXPECT_EQ(score_reply(both, "8", gold), 0.25);
  EXPECT_EQ(score_reply(both, "It is 8", gold), 0);
}

TEST(Reward, UnusableGoldsAndRewardsAreNamed) {
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << text << "' lacks '" << part << "'";
  };
  EXPECT_EQ(gold_problem(spec(RewardKind::kLastNumber), {"72", {}, {}}), "");
  has(gold_problem(spec(RewardKind::kLastNumber), {"east", {}, {}}), "'east' is not a number");
  has(gold_problem(spec(RewardKind::kExact), {" ", {}, {}}), "empty");
  has(gold_problem(spec(RewardKind::kMultipleChoice), {"A", {}, {}}), "no choices");
  has(gold_problem(spec(RewardKind::kMultipleChoice), {"E", {"A", "B"}, {"x", "y"}}), "'E'");
  EXPECT_EQ(gold_problem(spec(RewardKind::kMultipleChoice), {"B", {"A", "B"}, {"x", "y"}}), "");
  has(reward_problem(spec(RewardKind::kRegex, "(a")), "at character 2");
  has(reward_problem(spec(RewardKind::kRegex)), "no pattern");
  EXPECT_EQ(reward_problem(spec(RewardKind::kRegex, "(a)")), "");
  RewardSpec weightless = spec(RewardKind::kExact);
  weightless.weight = 0;
  has(reward_problem(weightless), "weight");
}

}  // namespace
}  // namespace svfleet
