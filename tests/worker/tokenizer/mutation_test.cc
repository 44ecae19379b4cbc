// Damaged files: an Error, or a tokenizer that still works; never a crash, never a hang.
#include <chrono>
#include <random>

#include "comm/error.h"
#include "tests/mutation.h"
#include "tests/sanitized.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/pretokenize_regex.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

using nlohmann::json;

// A small file of each kind, so that a round is quick: the first tokens and the merges among them.
json shortened(const std::string& kind) {
  auto file = read_json(kFixtures + "/" + kind + "/tokenizer.json");
  auto& model = file["model"];
  json merges = json::array();
  for (size_t i = 0; i < 40; ++i) merges.push_back(model["merges"][i]);
  model["merges"] = merges;
  return file;
}

const json kOthers[] = {nullptr,
                        true,
                        -1,
                        0,
                        1,
                        3.5,
                        1u << 31,
                        "",
                        " ",
                        "\xe2\x96\x81",
                        "a",
                        "a b",
                        "Sequence",
                        "Split",
                        "BPE",
                        "(a*)*b",
                        "\\s+(?!\\S)|.",
                        "[",
                        json::array(),
                        json::object(),
                        {{"type", "ByteLevel"}},
                        {{"String", ""}},
                        {{"Regex", "x*"}},
                        1e300,
                        "ByteFallback",
                        "<0x0A>",
                        {1, 2, 3}};

void exercise(const std::string& bytes, int& loaded) {
  const auto start = std::chrono::steady_clock::now();
  try {
    const auto tokenizer = load_bytes(bytes);
    ++loaded;
    for (const char* text : {"", "Hello  42 \xc3\xa9\xe4\xb8\xad <s></s>'s\n\n \t x<|eot_id|>",
                             "\xff\xf0\x9f", "   "}) {
      const auto ids = tokenizer.encode(text, true);
      const auto back = tokenizer.decode(ids, false);
      EXPECT_EQ(valid_utf8(back), back);
    }
    StreamDecoder stream(tokenizer);
    for (int id = -1; id < 40; ++id) stream.push(id);
    stream.finish();
  } catch (const Error& error) {
    EXPECT_NE(error.code(), kExitInternal) << error.what();
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20);
}

TEST(TokenizerFuzz, MutatedValues) {
  std::mt19937 random(1);
  int loaded = 0, rounds = 0;
  for (const char* kind : kKinds) {
    const json base = shortened(kind);
    for (int round = 0; round < (kSanitized ? 20 : 120); ++round, ++rounds) {
      json changed = base;
      for (size_t n = 1 + random() % 3; n > 0; --n) change_value(changed, kOthers, random);
      exercise(changed.dump(), loaded);
    }
  }
  EXPECT_GT(loaded, rounds / 42);
  EXPECT_LT(loaded, rounds);
}

TEST(TokenizerFuzz, MutatedBytes) {
  std::mt19937 random(2);
  int loaded = 0;
  for (const char* kind : kKinds) {
    const std::string base = shortened(kind).dump();
    for (int round = 0; round < (kSanitized ? 10 : 60); ++round)
      exercise(change_bytes(base, random), loaded);
  }
}

TEST(TokenizerFuzz, RandomPatterns) {
  std::mt19937 random(4);
  static const char* const kParts[] = {
      "(", ")", "(?:", "(?i:",   "(?!", "[", "]", "[^", "\\s", "\\S", "\\p{L}", "\\p{N}",
      "+", "*", "?",   "{1,3}",  "|",   "a", " ", "-",  "'",   "\\r", "\\",     "\xe4\xb8\xad",
      ".", "{", "}",   "\\x{41}"};
  int valid = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string pattern;
    for (size_t n = 1 + random() % 7; n > 0; --n) pattern += kParts[random() % std::size(kParts)];
    try {
      const auto regex = Regex::from_onig(pattern, "test");
      size_t end = 0;
      for (const auto& span : regex.find_all("ab 12 \xe4\xb8\xad\xe4\xb8\xad's  - aaaaaaaaaaaa")) {
        ASSERT_LE(end, span.begin) << pattern;
        ASSERT_LE(span.begin, span.end) << pattern;
        end = span.end;
      }
      ++valid;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
    }
  }
  EXPECT_GT(valid, 300);
}

}  // namespace
}  // namespace svfleet
