// Streaming: ids in, whole characters out; and replies that end at a stop string.
#include <random>

#include "comm/error.h"
#include "tests/sanitized.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/stop_strings.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

std::string streamed(const Tokenizer& tokenizer, const std::vector<int>& ids) {
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const int id : ids) {
    const auto part = stream.push(id);
    EXPECT_EQ(valid_utf8(part), part);
    text += part;
  }
  return text + stream.finish();
}

TEST(Stream, GivesTheWholeTextInWholeCharacters) {
  std::vector<const char*> kinds(std::begin(kKinds), std::end(kKinds));
  kinds.insert(kinds.end(), {"gemma", "phi3"});  // decoders of their own
  for (const char* kind : kinds) {
    const auto tokenizer = Tokenizer::load(kFixtures + "/" + kind);
    std::vector<int> all;
    const auto expected = read_json(kFixtures + "/" + kind + "/expected.json");
    size_t at = 0;
    for (const auto& row : expected["rows"]) {
      if (kSanitized && at++ % 8) continue;
      const auto ids = row[1].get<std::vector<int>>();
      EXPECT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids)) << kind << row;
      all.insert(all.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(streamed(tokenizer, all), tokenizer.decode(all)) << kind;
  }
}

TEST(Stream, HoldsBackHalfACharacter) {
  const auto tokenizer = Tokenizer::load(kFixtures + "/gpt2");
  const auto ids = tokenizer.encode("a\xf0\x9f\x98\x80z");
  ASSERT_GE(ids.size(), 4u);  // the emoji is several tokens
  StreamDecoder stream(tokenizer);
  std::vector<std::string> parts;
  for (const int id : ids)
    if (const auto part = stream.push(id); !part.empty()) parts.push_back(part);
  EXPECT_EQ(parts, (std::vector<std::string>{"a", "\xf0\x9f\x98\x80", "z"}));
  // A reply that ends inside the character.
  StreamDecoder cut(tokenizer);
  EXPECT_EQ(cut.push(ids[0]), "a");
  EXPECT_EQ(cut.push(ids[1]), "");
  EXPECT_EQ(cut.finish(), "\xef\xbf\xbd");
  EXPECT_EQ(cut.finish(), "");
}

// Runs of bytes that are no text: the parts still add up to valid text, each id counted once.
TEST(Stream, SurvivesRandomIds) {
  std::mt19937 random(3);
  for (const char* kind : kKinds) {
    const auto tokenizer = Tokenizer::load(kFixtures + "/" + kind);
    const bool bytes_join = tokenizer.id_of("<0x00>") == std::nullopt;
    for (int round = 0; round < 100; ++round) {
      std::vector<int> ids(random() % 90);
      for (auto& id : ids) id = static_cast<int>(random() % (round % 2 ? 300 : tokenizer.size()));
      const auto text = streamed(tokenizer, ids);
      // Byte fallback replaces a whole run when its last byte is wrong: what is out stays out.
      if (bytes_join) {
        EXPECT_EQ(text, tokenizer.decode(ids)) << kind;
      }
    }
  }
}

// What is no text comes out as it goes on, and is not all decoded again for each id.
TEST(Stream, HoldsNoMoreThanACharacterNeeds) {
  for (const char* kind : {"gpt2", "llama2"}) {
    const auto tokenizer = Tokenizer::load(kFixtures + "/" + kind);
    const int byte = tokenizer.id_of(kind == std::string("gpt2") ? "\u0122" : "<0x80>").value();
    StreamDecoder stream(tokenizer);
    std::string text;
    size_t shown = 0;
    for (int i = 0; i < 5000; ++i) {
      text += stream.push(byte);
      if (i == 100) shown = text.size();
    }
    EXPECT_GE(shown, 3 * 90u) << kind;
    text += stream.finish();
    EXPECT_EQ(text, tokenizer.decode(std::vector<int>(5000, byte))) << kind;
  }
  // Ids without a text are not kept: else these would take minutes.
  const auto tokenizer = Tokenizer::load(kFixtures + "/llama3");
  const auto word = tokenizer.encode("word");
  int special = tokenizer.size() - 1;
  while (!tokenizer.is_special(special)) --special;
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const int id : word) text += stream.push(id);
  for (int i = 0; i < (kSanitized ? 1000 : 100000); ++i) text += stream.push(special);
  for (const int id : word) text += stream.push(id);
  EXPECT_EQ(text + stream.finish(), "wordword");
}

// Bytes of all kinds, which make some characters among much that is none, over many windows.
TEST(Stream, GivesBytesAsTheWholeText) {
  const auto tokenizer = Tokenizer::load(kFixtures + "/gpt2");
  std::vector<int> bytes;  // of 0x80 and above
  for (int id = 0; id <= 256; ++id)
    if (tokenizer.decode(std::vector<int>{id}) == "\xef\xbf\xbd") bytes.push_back(id);
  ASSERT_EQ(bytes.size(), 128u);
  const auto emoji = tokenizer.encode("\xf0\x9f\x98\x80");
  std::mt19937 random(5);
  for (int round = 0; round < (kSanitized ? 3 : 30); ++round) {
    std::vector<int> ids;
    while (ids.size() < 400)
      if (random() % 4)
        ids.push_back(bytes[random() % bytes.size()]);
      else
        ids.insert(ids.end(), emoji.begin(), emoji.end());
    EXPECT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids)) << round;
  }
}

// The definition, read off the whole text: the stop string completed first, the longest of them.
std::pair<size_t, bool> cut_of(const std::string& text, const std::vector<std::string>& strings) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const auto& string : strings)
      if (end >= string.size() && text.compare(end - string.size(), string.size(), string) == 0)
        longest = std::max(longest, string.size());
    if (longest) return {end - longest, true};
  }
  return {text.size(), false};
}

TEST(StopStrings, HandWorked) {
  StopMatcher stop({"\nQ:", "END"});
  EXPECT_EQ(stop.push("4 is it"), "4 is it");
  EXPECT_EQ(stop.push(" E"), " ");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("E\n"), "ENE");
  EXPECT_FALSE(stop.stopped());
  EXPECT_EQ(stop.push("Q: more"), "");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.cut(), std::string("4 is it ENE").size());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");

  StopMatcher held({"###"});
  EXPECT_EQ(held.push("a##"), "a");
  EXPECT_EQ(held.finish(), "##");
  EXPECT_EQ(held.cut(), 3u);

  StopMatcher nested({"bc", "abcd"});
  EXPECT_EQ(nested.push("xabcd"), "xa");
  EXPECT_EQ(nested.cut(), 2u);

  StopMatcher none({});
  EXPECT_EQ(none.push("anything"), "anything");
  EXPECT_THROW(StopMatcher({"a", ""}), Error);
}

TEST(StopStrings, AnyCuttingIntoPushesGivesTheDefinition) {
  std::mt19937 random(11);
  const auto word = [&](size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> strings;
    for (size_t n = 1 + random() % 3; n > 0; --n) strings.push_back(word(7));
    const auto text = word(20);
    const auto [cut, stops] = cut_of(text, strings);
    StopMatcher matcher(strings);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min<size_t>(1 + random() % 4, text.size() - at);
      shown += matcher.push(text.substr(at, n));
      at += n;
      ASSERT_LE(shown.size(), cut);
    }
    shown += matcher.finish();
    ASSERT_EQ(matcher.stopped(), stops);
    ASSERT_EQ(matcher.cut(), cut);
    ASSERT_EQ(shown, text.substr(0, cut));
    stopped += stops;
  }
  EXPECT_GT(stopped, 300);
  EXPECT_LT(stopped, 2900);
}

}  // namespace
}  // namespace svfleet
