#include "rl/choice_parse.h"

#include <gtest/gtest.h>

namespace svfleet {
namespace {

using Strings = std::vector<std::string>;

struct ChoiceCase {
  const char* reply;
  int choice;  // -1: the reply does not settle
};

void check(const Strings& labels, const Strings& choices, const std::vector<ChoiceCase>& cases) {
  for (const ChoiceCase& c : cases)
    EXPECT_EQ(chosen(c.reply, labels, choices).value_or(-1), c.choice) << "'" << c.reply << "'";
}

TEST(Chosen, ByBracketsAndSigns) {
  check({"A", "B", "C", "D"}, {"(0,1)", "[0,1]", "[0,1)", "<3"},
        {{"(0,1)", 0},
         {" [0,1]\n", 1},
         {"[0,1)", 2},
         {"\\boxed{[0,1]}", 1},
         {"0,1", -1},
         {"<3", 3},
         {">3", -1},
         {"(a)", 0},
         {"(a", 0},
         {"b)", 1},
         {"b).", 1},
         {"[d] <3", 3},
         {"d) >3", -1},
         {"(c) [0,1)", 2}});
  // A sign is no bracket: "<3" is not label 3.
  check({"1", "2", "3", "4"}, {"<3", "=3", ">3", "none"},
        {{"<3", -1}, {"\\boxed{<3}", -1}, {"2", 1}});
  check({"A)", "B)"}, {".5", "5"}, {{"A", 0}, {"b)", 1}, {".5", 0}, {"5", 1}, {"It is .5 m", 0}});
}

// Worked by hand from the rules in the header.
TEST(Chosen, Letters) {
  check({"A", "B", "C", "D"}, {"a lion", "iron", "the Moon", "sea water"},
        {
            {"B", 1},
            {"b", 1},
            {" (B) ", 1},
            {"**B**", 1},
            {"B.", 1},
            {"\\boxed{C}", 2},
            {"I think \\boxed{\\text{C}} since A and B fail", 2},
            {"Iron", 1},
            {"the moon.", 2},
            {"A lion", 0},
            {"B. iron", 1},
            {"b) iron", 1},
            {"B: iron, because it rusts", 1},
            {"(D) sea water is salty", 3},
            {"D - sea water", 3},
            {"C\nBecause it orbits.", 2},
            {"The answer is B.", 1},
            {"The answer is (B).", 1},
            {"The correct answer is: **C**", 2},
            {"Answer: D", 3},
            {"Answer:\nD", 3},
            {"answer is option C", 2},
            {"The answer is $\\boxed{D}$.", 3},
            {"A and B are wrong. The answer is C, not D.", 2},
            {"Answer: A. No wait. Answer: B", 1},
            {"The answer is A because lions roar", 0},
            {"The answer is A", 0},
            {"Option B is correct.", 1},
            {"I choose C.", 2},
            {"It must be D.", 3},
            {"I pick (A)", 0},
            {"The metal that rusts is iron.", 1},
            {"It is sea water, I am sure.", 3},
            {"A. a lion\nB. iron\nC. the Moon\nD. sea water\nSo (C).", 2},
        });
}

TEST(Chosen, DoesNotSettle) {
  check({"A", "B", "C", "D"}, {"a lion", "iron", "the Moon", "sea water"},
        {
            {"", -1},
            {"A or B", -1},
            {"A, B", -1},
            {"The answer is A or B.", -1},
            {"The answer is B and C", -1},
            {"Answer: A/B", -1},
            {"A B C D", -1},
            {"A. a lion\nB. iron\nC. the Moon\nD. sea water", -1},
            {"E", -1},
            {"I do not know.", -1},
            {"A metal that rusts.", -1},
            {"A rusty thing", -1},
            {"The answer is a metal.", -1},
            {"The answer is A metal.", -1},
            {"It is a good question", -1},
            {"A Tiger", -1},
            {"iron or the Moon", -1},
            {"Abcd", -1},
            {"BIG", -1},
            {"It has iron, so (C)", -1},
            {"Option A is right. Option B is right.", -1},
        });
}

TEST(Chosen, DigitLabels) {
  check({"1", "2", "3", "4"}, {"heat", "light", "sound", "mass"},
        {
            {"3", 2},
            {"(3)", 2},
            {"3.", 2},
            {"3. sound", 2},
            {"Answer: 2", 1},
            {"The answer is (4).", 3},
            {"Option 1", 0},
            {"The answer is sound.", 2},
            {"It takes 3 days", -1},
            {"3.5", -1},
            {"The answer is 3.5", -1},
            {"1. First think\n2. Then guess", -1},
            {"12", -1},
            {"B", -1},
            {"Both 1 and 2", -1},
        });
}

TEST(Chosen, WhatIsDeniedIsPassedOver) {
  check({"A", "B", "C", "D"}, {"a lion", "iron", "the Moon", "sea water"},
        {
            {"It is not B.", -1},
            {"Not A.", -1},
            {"It isn\u2019t B", -1},
            {"It can't be option B.", -1},
            {"I would not choose B.", -1},
            {"B is wrong.", -1},
            {"B is not correct", -1},
            {"B cannot be right", -1},
            {"Option B is incorrect.", -1},
            {"It is not A or B", -1},
            {"The answer is not B", -1},
            {"It is not iron.", -1},
            {"Iron is wrong", -1},
            {"not B) but C", 2},
            {"It is not A, it is B.", 1},
            {"A and B are wrong, so C", 2},
            {"A) Wrong\nB) Right", 1},
            {"It is not iron, it is the Moon", 2},
            {"The answer is B, not C.", 1},
            {"B, because A is not a metal", 1},
            {"The metal that does not rust is iron", 1},
            {"It is not only right, it is B", 1},
        });
}

TEST(Chosen, TextsOfAllScripts) {
  check({"A", "B"}, {"\u00C4rger", "\u041C\u043E\u0441\u043A\u0432\u0430"},
        {{"\u00E4rger", 0},
         {"A\u0308RGER", 0},  // decomposed
         {"It is \u043C\u043E\u0441\u043A\u0432\u0430!", 1},
         {"\u7B54\u6848\u662FB\u3002", 1},
         {"\uFF22", 1}});  // full width
  check({"\u0410", "\u0411"}, {"x", "y"}, {{"\u0431", 1}, {"(\u0410)", 0}});
}

TEST(Chosen, TextsThatLookLikeLabels) {
  // The C of "Vitamin C" is part of a text; a number is a text where labels are letters.
  check({"A", "B", "C"}, {"Vitamin A", "Vitamin C", "Vitamin D"},
        {{"Vitamin C", 1}, {"It is Vitamin C.", 1}, {"C", 2}, {"The answer is C", 2}});
  check({"A", "B", "C"}, {"2", "4", "8"}, {{"4", 1}, {"It has 8 legs", 2}, {"2 + 2 = 4", -1}});
  // A label that is also another choice's text names two.
  check({"1", "2"}, {"2", "1"},
        {{"1", -1}, {"Answer: 2", -1}, {"1. 2", 0}, {"The answer is 2: 1", 1}, {"It is 2.", -1}});
  check({"A", "B", "C"}, {"c", "co", "cu"}, {{"C", -1}, {"The answer is C.", -1}, {"B", 1}});
  // The longer text holds the shorter one.
  check({"A", "B"}, {"lion", "sea lion"},
        {{"a sea lion", 1}, {"the lion", 0}, {"lions", -1}, {"the lion and the sea lion", -1}});
  // ChoiceCase alone tells two texts apart.
  check({"A", "B", "C"}, {"WW", "Ww", "ww"},
        {{"Ww", 1}, {"ww.", 2}, {"The genes are Ww", -1}, {"wW", -1}});
  // Five choices; E is a label here.
  check({"A", "B", "C", "D", "E"}, {"v", "w", "x", "y", "z"}, {{"E", 4}, {"Answer: (E)", 4}});
}

}  // namespace
}  // namespace svfleet
