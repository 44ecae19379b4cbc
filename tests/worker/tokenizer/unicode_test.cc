// UTF-8, NFC and the character classes against Python and `tokenizers`, character by character.
#include "worker/tokenizer/unicode.h"
#include "tests/sanitized.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/json.h"
#include "worker/tokenizer/pretokenize.h"
#include "worker/tokenizer/pretokenize_regex.h"

namespace svfleet {
namespace {

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

TEST(Unicode, InvalidUtf8AsPythonReplacesIt) {
  const auto tokenizer = Tokenizer::load(kFixtures + "/llama3");
  for (const auto& row : read_json(kFixtures + "/invalid_utf8.json")) {
    const auto bytes = bytes_of(row[0]);
    const auto text = row[1].get<std::string>();
    EXPECT_EQ(valid_utf8(bytes), text) << row;
    EXPECT_EQ(valid_utf8(text), text);
    EXPECT_EQ(tokenizer.encode(bytes), tokenizer.encode(text)) << row;
  }
}

TEST(Unicode, EveryCharacterSurvivesUtf8) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c == 0xd800) c = 0xe000;
    std::string text;
    append_char(text, c);
    size_t at = 0;
    ASSERT_EQ(next_char(text, at), c);
    ASSERT_EQ(at, text.size());
    if (c % 97 == 0) {
      ASSERT_EQ(valid_utf8(text), text);
    }
  }
}

TEST(Unicode, NfcOfEveryCharacterAndOfItsDecomposition) {
  int composed = 0;
  const auto every = read_json(kFixtures + "/nfc.json");
  // U+11938 came with Unicode 13: the reference composes by an older table, utf8proc as Unicode
  // says. The one known difference.
  const std::string newer = "\xf0\x91\xa4\xb8";
  for (const auto& [text, forms] : every.items()) {
    if (text == newer) continue;
    EXPECT_EQ(nfc(text), forms[0].get<std::string>());
    EXPECT_EQ(nfc(forms[1].get<std::string>()), forms[2].get<std::string>());
    composed += forms[2] == text;
  }
  EXPECT_GT(composed, 900);
  // Hangul is computed, not listed (Unicode standard, section 3.12): U+AC00 + 2 * 28 + 1.
  EXPECT_EQ(nfc("\xe1\x84\x80\xe1\x85\xa3\xe1\x86\xa8"), "\xea\xb0\xb9");
  EXPECT_EQ(nfc(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(nfc(""), "");
}

// With sanitizers the classes are looked at up to here: a character later on takes the same paths.
constexpr int kCharacters = kSanitized ? 0x3000 : 0x110000;

// Which characters a pattern removes, as runs of code points.
template <class Matches>
std::vector<std::pair<int, int>> runs(const Matches& matches) {
  std::vector<std::pair<int, int>> found;
  for (int c = 0; c < kCharacters; ++c) {
    if (c == 0xd800) c = 0xe000;
    std::string text;
    append_char(text, static_cast<char32_t>(c));
    if (!matches(text)) continue;
    if (!found.empty() && found.back().second == c - 1)
      found.back().second = c;
    else
      found.push_back({c, c});
  }
  return found;
}

TEST(Unicode, EveryCharacterIsInTheSameClasses) {
  const auto classes = read_json(kFixtures + "/classes.json");
  for (const auto& [pattern, expected] : classes.items()) {
    std::vector<std::pair<int, int>> wanted;
    for (const auto& [first, last] : expected.get<std::vector<std::pair<int, int>>>())
      if (first < kCharacters) wanted.push_back({first, std::min(last, kCharacters - 1)});
    if (pattern == "Digits") {
      const Json json = {{"type", "Digits"}, {"individual_digits", true}};
      const auto digits = PreTokenizer::read({json, "test"});
      EXPECT_EQ(
          runs([&](const std::string& c) { return digits.split("@" + c + "@", true).size() == 3; }),
          wanted);
      continue;
    }
    const auto regex = Regex::from_onig(pattern, "test");
    EXPECT_EQ(runs([&](const std::string& c) { return regex.matches_at_start(c); }), wanted)
        << pattern;
  }
}

// Control: PCRE2's own \s is another set (U+180E), and its \p{L} lacks the newest letters.
TEST(Unicode, WithoutTranslationTheClassesDiffer) {
  const auto expected = read_json(kFixtures + "/classes.json");
  const auto plain = Regex::from_pcre2("\\s", "test");
  EXPECT_NE(runs([&](const std::string& c) { return plain.matches_at_start(c); }),
            (expected["\\s"].get<std::vector<std::pair<int, int>>>()));
}

TEST(Unicode, SplitBehaviors) {
  // "the-final--countdown" cut at "-", as the format's documentation shows it.
  const auto regex = Regex::literal("-", "test");
  const std::string text = "the-final--countdown";
  const auto cut = [&](SplitBehavior behavior, bool invert = false) {
    std::vector<std::string> parts;
    for (const auto& span : split_at(regex.find_all(text), text.size(), behavior, invert))
      parts.push_back(text.substr(span.begin, span.end - span.begin));
    return parts;
  };
  using Parts = std::vector<std::string>;
  EXPECT_EQ(cut(SplitBehavior::kRemoved), (Parts{"the", "final", "countdown"}));
  EXPECT_EQ(cut(SplitBehavior::kRemoved, true), (Parts{"-", "-", "-"}));
  EXPECT_EQ(cut(SplitBehavior::kIsolated), (Parts{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(cut(SplitBehavior::kMergedWithPrevious), (Parts{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(cut(SplitBehavior::kMergedWithNext), (Parts{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(cut(SplitBehavior::kContiguous), (Parts{"the", "-", "final", "--", "countdown"}));
}

}  // namespace
}  // namespace svfleet
