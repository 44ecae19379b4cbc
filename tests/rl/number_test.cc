#include "rl/number_parse.h"

#include <gtest/gtest.h>

namespace svfleet {
namespace {

struct Case {
  const char* text;
  std::optional<double> number;
};
constexpr std::nullopt_t kNone = std::nullopt;

// Worked by hand from the rules in the header.
const Case kReplies[] = {
    // plain, signs, the sentence around it
    {"72", 72},
    {"The answer is 72.", 72},
    {"12 + 30 = 42", 42},
    {"-3", -3},
    {"It fell to -3 degrees", -3},
    {"+5", 5},
    {"\u22127", -7},
    {"x = \u20137.", -7},
    {"10-5", 5},
    {"10 - 5", 5},
    {"10 -5", -5},
    {"(-4)", -4},
    {"x-5", 5},
    {"pages 10\u201312", 12},
    {"007", 7},
    {"0", 0},
    {"-0", 0},
    // thousands and lists
    {"1,234", 1234},
    {"1,234,567.", 1234567},
    {"$80,000 and then $1,200", 1200},
    {"1,2,3", 3},
    {"1, 234", 234},
    {"1234,567", 567},
    {"0,123", 123},
    {"12,34", 34},
    {"1,234,56", 56},
    {"1,234, 5", 5},
    {"10,\\!080", 10080},
    {"10{,}080", 10080},
    {"10\\,080", 10080},
    {"10\u00A0080", 10080},
    {"1\u202F234\u202F567", 1234567},
    {"3\\,\\text{cm}", 3},
    // decimals
    {"3.14", 3.14},
    {"3.14.", 3.14},
    {".5", 0.5},
    {"-.5", -0.5},
    {"1,234.50", 1234.5},
    {"42.The end", 42},
    {"between 3...7", 7},
    {"version 1.2.3", kNone},
    {"42 in version 1.2.3", 42},
    // currency, percent, degrees, units
    {"$18", 18},
    {"-$5", -5},
    {"$-5", -5},
    {"\\$5.50", 5.5},
    {"€7", 7},
    {"£1,000", 1000},
    {"45%", 45},
    {"45\\%", 45},
    {"90^\\circ", 90},
    {"90^{\\circ}", 90},
    {"5kg", 5},
    {"36 m^2", 36},
    {"36 cm^{2}", 36},
    {"a_1 = 4, a_2", 4},
    {"H2O", kNone},
    {"8 of H2O", 8},
    {"_5_", 5},
    // fractions, scientific notation, work left undone
    {"3/4", 0.75},
    {"-3/4", -0.75},
    {"\\frac{3}{4}", 0.75},
    {"-\\frac{3}{4}", -0.75},
    {"\\dfrac34", 0.75},
    {"\\frac{-1}{2}", -0.5},
    {"1 1/2", 1.5},
    {"2\\frac{1}{2}", 2.5},
    {"12/05/2020", 2020},
    {"48/2 = 24", 24},
    {"48/2", kNone},
    {"72 or 48/2", kNone},
    {"\\frac{48}{2}", kNone},
    {"\\frac{\\pi}{2}", kNone},
    {"5/0", kNone},
    {"1.5e3", 1500},
    {"2E-3", 0.002},
    {"1e+2", 100},
    {"1.5 \\times 10^{3}", 1500},
    {"3 \u00D7 10^5", 300000},
    {"2 x 10^-2", 0.02},
    {"10^6", 1e6},
    {"2^{10}", kNone},
    {"2^10 = 1024", 1024},
    {"3 * 4 = 12", 12},
    // markers
    {"48/2 = 24\n#### 72", 72},
    {"#### 72\nThat took 3 steps.", 72},
    {"####72", 72},
    {"#### $1,200", 1200},
    {"#### -5.", -5},
    {"#### 1\n#### 2", 2},
    {"#### Step 1\nso it is 42", 42},
    {"#### 1. Add them\nso it is 42", 42},
    {"##### 3\nso it is 42", 42},
    {"####\n42", 42},
    {"\\boxed{42} after 3 steps", 42},
    {"\\boxed{1} then \\boxed{2} of 9", 2},
    {"\\boxed{10,\\!080}", 10080},
    {"\\boxed{x = -5}", -5},
    {"\\boxed{\\frac{3}{4}} of 8", 0.75},
    {"8 \\boxed{\\text{east}}", kNone},
    {"\\boxed{7", 7},
    {"#### 5\n\\boxed{6} 7", 6},
    {"\\boxed{6}\n#### 5\n7", 5},
    // an ordinal is no number, and other work is left undone: none rather than a wrong one
    {"He came 5th.", kNone},
    {"The answer is 72, see the 3rd step.", 72},
    {"the 5^{th} of 12 is 4, the 5^\\text{th}", 4},
    {"5thousand", kNone},
    {"1\u00BD", 1.5},
    {"\u00BE", 0.75},
    {"10\u00B3", 1000},
    {"10\u207B\u00B2", 0.01},
    {"5\u00B3", kNone},
    {"36 m\u00B2", 36},
    {"3\u20444", 0.75},
    {"\uFF17\uFF12", 72},
    {"2.5 million", kNone},
    {"$3-billion", kNone},
    {"5k", kNone},
    {"5 kg", 5},
    {"5 m", 5},
    {"2.5 million is 2,500,000", 2500000},
    {"12 500", kNone},
    {"1 234 567.", kNone},
    {"12'500", kNone},
    {"12_500", kNone},
    {"0x1F", kNone},
    {"2 1000", 1000},
    {"12 50", 50},
    {"12 500 in all: 7", 7},
    {"9\u03C0", kNone},
    {"9\\pi", kNone},
    {"\\sqrt{16}", kNone},
    {"\u221A16", kNone},
    {"sqrt(16) = 4", 4},
    {"\\sqrt[3]{8} = 2", 2},
    {"\\sqrt{x} = 5", 5},
    {"\\log_2 8", kNone},
    {"\\binom{5}{2}", kNone},
    {"2^n", kNone},
    {"so x = 3x", kNone},
    {"\\boxed{3\\pi}", kNone},
    {"\\boxed{\\sqrt{16}}", kNone},
    {"\\boxed{2\\sqrt{3}}", kNone},
    {"\\boxed{3x + 2}", kNone},
    {"\\boxed{6 \\times 8}", kNone},
    {"\\boxed{5 - 2}", kNone},
    {"\\boxed{3, 4}", kNone},
    {"\\boxed{x = 5, y = 6}", kNone},
    {"\\boxed{x > 5}", kNone},
    {"\\boxed{\\pm 3}", kNone},
    {"\\boxed{12 + 30 = 42}", 42},
    {"\\boxed{72 \\text{ (36 a day)}}", 72},
    {"\\boxed{\\text{72}}", 72},
    {"\\boxed{\\left(5\\right)}", 5},
    {"\\boxed{36\\text{ cm}^2}", 36},
    {"\\boxed{\\$1,200}", 1200},
    {"#### 3 + 4", kNone},
    {"**#### 72**", 72},
    // nothing
    {"", kNone},
    {"no number", kNone},
    {"seventy-two", kNone},
    {"-", kNone},
    {"$", kNone},
    {"1"
     "000000000000000000000000000000e999",
     kNone},
};

TEST(FinalNumber, HandWorkedReplies) {
  for (const Case& c : kReplies) {
    const auto number = final_number(c.text);
    ASSERT_EQ(number.has_value(), c.number.has_value())
        << "'" << c.text << "' gives " << number.value_or(-999);
    EXPECT_DOUBLE_EQ(number.value_or(0), c.number.value_or(0)) << "'" << c.text << "'";
  }
  static_assert(sizeof kReplies / sizeof *kReplies >= 40);
}

TEST(GoldNumber, IsANumberAndNoMore) {
  EXPECT_EQ(gold_number("72"), 72);
  EXPECT_EQ(gold_number(" $1,200. "), 1200);
  EXPECT_EQ(gold_number("58,500"), 58500);
  EXPECT_EQ(gold_number("10,\\!080"), 10080);
  EXPECT_EQ(gold_number("45\\%"), 45);
  EXPECT_EQ(gold_number("\\frac{3}{4}"), 0.75);
  EXPECT_EQ(gold_number("so 2+2=4\n#### 4"), 4);
  EXPECT_EQ(gold_number("thus \\boxed{12}."), 12);
  for (const char* bad : {"", "none", "1, 2", "1,2", "72 clips", "5\\sqrt{2}", "x=3", "48/2",
                          "\\left( 3, \\frac{\\pi}{2} \\right)", "\\text{east}", "3-4", "2x"})
    EXPECT_FALSE(gold_number(bad)) << bad;
}

TEST(SameNumber, ComparesWholeNumbersByAllTheirDigits) {
  EXPECT_TRUE(same_number("so 9007199254740993", "9007199254740993", 1e-6));
  EXPECT_FALSE(same_number("so 9007199254740992", "9007199254740993", 1e-6));  // equal as doubles
  EXPECT_TRUE(same_number("12,345,678,901,234,567,890,123.00", "#### 12345678901234567890123", 0));
  EXPECT_FALSE(same_number("12345678901234567890124", "12345678901234567890123", 0));
  EXPECT_TRUE(same_number("0072", "72.0", 0));
  EXPECT_TRUE(same_number("-0", "0", 0));
  EXPECT_FALSE(same_number("-72", "72", 0));
  EXPECT_TRUE(same_number("72.0000001", "72", 1e-6));
  EXPECT_TRUE(same_number("73", "72", 1));
  // As a key and a reply may write one number.
  EXPECT_TRUE(same_number("$2.50", "2.5", 0));
  EXPECT_TRUE(same_number("2.5", "2.50", 0));
  for (const char* huge : {"1e300", "1E300", "1e+300", "1.0e300", "10^{300}", "1 \\times 10^{300}"})
    EXPECT_TRUE(same_number(huge, "1e+300", 1e-6)) << huge;
  EXPECT_FALSE(same_number("1e299", "1e300", 1e-6));
  EXPECT_TRUE(same_number("1e22", "10000000000000000000000", 0));
  EXPECT_FALSE(same_number("nothing", "72", 1));
}

TEST(FinalNumber, SurvivesAnyBytes) {
  // A linear walk over every short string of the characters that steer the parser.
  const std::string alphabet = "1.,-$/^{}\\# e\xE2\x88\x92";
  std::string text(6, ' ');
  int64_t total = 1;
  for (size_t i = 0; i < text.size(); ++i) total *= static_cast<int64_t>(alphabet.size());
  for (int64_t n = 0; n < total; n += 37) {
    int64_t left = n;
    for (char& c : text) {
      c = alphabet[left % alphabet.size()];
      left /= static_cast<int64_t>(alphabet.size());
    }
    final_number(text);
    gold_number("\\frac" + text);
  }
}

}  // namespace
}  // namespace svfleet
