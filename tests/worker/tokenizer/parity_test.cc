// Ids and decodings against Hugging Face's `tokenizers`, string by string.
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "comm/error.h"
#include "tests/sanitized.h"
#include "tests/worker/tokenizer/fixture.h"

namespace svfleet {
namespace {

using nlohmann::json;

struct Differences {
  int ids = 0, skip = 0, keep = 0, rows = 0;
  std::string first;
};

Differences compare(const Tokenizer& tokenizer, const json& expected) {
  Differences count;
  for (const auto& row : expected["rows"]) {
    const auto text = row[0].get<std::string>();
    const auto ids = row[1].get<std::vector<int>>();
    ++count.rows;
    if (tokenizer.encode(text) != ids) {
      if (count.first.empty())
        count.first = row.dump() + " got " + json(tokenizer.encode(text)).dump();
      ++count.ids;
    }
    for (const bool skip : {true, false}) {
      const auto& decoded = row[skip ? 2 : 3];
      const auto got = tokenizer.decode(ids, skip);
      if (got == (decoded.is_null() ? text : decoded.get<std::string>())) continue;
      if (count.first.empty()) count.first = row.dump() + " decoded '" + got + "'";
      ++(skip ? count.skip : count.keep);
    }
  }
  return count;
}

void expect_equal(const Tokenizer& tokenizer, const json& expected) {
  const auto count = compare(tokenizer, expected);
  EXPECT_EQ(count.ids, 0) << "of " << count.rows << ", first: " << count.first;
  EXPECT_EQ(count.skip, 0) << count.first;
  EXPECT_EQ(count.keep, 0) << count.first;
  for (const auto& row : expected["random_ids"]) {
    const auto ids = row[0].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.decode(ids), row[1].get<std::string>()) << row;
    EXPECT_EQ(tokenizer.decode(ids, false), row[2].get<std::string>()) << row;
  }
  const auto& special = expected["with_special"];
  EXPECT_EQ(tokenizer.encode(special[0].get<std::string>(), true),
            special[1].get<std::vector<int>>());
  EXPECT_EQ(tokenizer.encode("", true), special[2].get<std::vector<int>>());
  EXPECT_EQ(tokenizer.size(), expected["size"].get<int>());
}

class Parity : public testing::TestWithParam<const char*> {};

TEST_P(Parity, WithTheReference) {
  const std::string folder = kFixtures + "/" + GetParam();
  expect_equal(Tokenizer::load(folder), read_json(folder + "/expected.json"));
}

std::string test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return c == '.' || c == '-'; });
  return name;
}
INSTANTIATE_TEST_SUITE_P(Kinds, Parity, testing::ValuesIn(kKinds), test_name);
INSTANTIATE_TEST_SUITE_P(Families, Parity, testing::ValuesIn(kFamilyKinds), test_name);

TEST(TokenizerParity, RealSmolLM2) {
  const char* named = std::getenv("SVFLEET_MODEL");
  const std::string folder = named ? named : SVFLEET_SOURCE_DIR "/models/SmolLM2-135M-Instruct";
  if (!std::filesystem::exists(folder + "/tokenizer.json"))
    GTEST_SKIP() << "no " << folder << "/tokenizer.json; set SVFLEET_MODEL to the model's folder";
  expect_equal(Tokenizer::load(folder), read_json(kFixtures + "/smollm2_expected.json"));
}

// Controls: each change must show in the comparison above.
TEST(TokenizerParity, AWrongFileIsNoticed) {
  const std::string folder = kFixtures + "/llama3";
  const auto expected = read_json(folder + "/expected.json");
  const auto file = read_json(folder + "/tokenizer.json");
  const auto different = [&](const json& changed) {
    return compare(load_bytes(changed.dump()), expected).ids;
  };
  EXPECT_EQ(different(file), 0);

  auto gpt2 = file;
  gpt2["pre_tokenizer"] = read_json(kFixtures + "/gpt2/tokenizer.json")["pre_tokenizer"];
  EXPECT_GT(different(gpt2), 30);
  auto no_ignore = file;
  no_ignore["model"]["ignore_merges"] = false;
  EXPECT_GT(different(no_ignore), 5);
  auto reversed = file;
  std::reverse(reversed["model"]["merges"].begin(), reversed["model"]["merges"].end());
  EXPECT_GT(different(reversed), 10);
  auto no_added = file;
  no_added["added_tokens"] = json::array();
  EXPECT_GT(different(no_added), 10);

  const auto qwen = read_json(kFixtures + "/qwen2.5/tokenizer.json");
  const auto qwen_expected = read_json(kFixtures + "/qwen2.5/expected.json");
  auto no_nfc = qwen;
  no_nfc["normalizer"] = nullptr;
  EXPECT_GT(compare(load_bytes(no_nfc.dump()), qwen_expected).ids, 10);
}

bool ids_differ_in(int texts, const Tokenizer& tokenizer, const json& expected) {
  for (const auto& row : expected["rows"])
    if (tokenizer.encode(row[0].get<std::string>()) != row[1].get<std::vector<int>>() &&
        --texts == 0)
      return true;
  return false;
}

// Controls: without any one of its components a family's tokenizer gives other tokens.
TEST(TokenizerParity, AMissingComponentIsNoticed) {
  const json none, no = false;
  const json gpt2_pattern = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const auto added = [](const char* kind, const char* flag) {
    json tokens = read_json(kFixtures + "/" + kind + "/tokenizer.json")["added_tokens"];
    for (auto& token : tokens) token[flag] = false;
    return tokens;
  };
  const auto without_added = [](const char* kind, const char* content) {
    json kept = json::array();
    const json file = read_json(kFixtures + "/" + kind + "/tokenizer.json");
    for (const auto& token : file["added_tokens"])
      if (token["content"] != content) kept.push_back(token);
    return kept;
  };
  const auto llama3_split =
      read_json(kFixtures + "/llama3/tokenizer.json")["pre_tokenizer"]["pretokenizers"][0];
  struct Case {
    const char* kind;
    const char* component;
    json instead;
    int least;  // texts of 400 that are cut otherwise
  };
  const Case cases[] = {
      {"gemma", "/normalizer", none, 100},
      {"gemma", "/model/byte_fallback", no, 100},
      {"gemma", "/added_tokens", without_added("gemma", "<b>"), 3},
      {"phi3", "/normalizer/normalizers/0", {{"type", "NFC"}}, 100},
      {"phi3", "/normalizer/normalizers/1", {{"type", "NFC"}}, 100},
      {"phi3", "/added_tokens", added("phi3", "rstrip"), 3},
      {"phi4", "/pre_tokenizer/pretokenizers/0/invert", no, 100},
      {"phi4", "/added_tokens", added("phi4", "lstrip"), 3},
      {"phi4", "/added_tokens", added("phi4", "rstrip"), 3},
      {"phi4-mini", "/pre_tokenizer/pretokenizers/0", llama3_split, 10},
      {"phi4-mini", "/added_tokens", added("phi4-mini", "rstrip"), 3},
      {"olmo2", "/pre_tokenizer", gpt2_pattern, 30},
      {"olmo2", "/added_tokens", without_added("olmo2", "|||IP_ADDRESS|||"), 3},
      {"qwen3", "/normalizer", none, 10},
      {"qwen3", "/added_tokens", without_added("qwen3", "<tool_response>"), 3},
      {"smollm3", "/model/ignore_merges", no, 3},
      {"smollm3", "/pre_tokenizer/pretokenizers/0/behavior", "Removed", 100},
      {"granite", "/pre_tokenizer/pretokenizers/0", gpt2_pattern, 10},
  };
  for (const auto& test : cases) {
    const std::string folder = kFixtures + "/" + test.kind;
    json file = read_json(folder + "/tokenizer.json");
    file[json::json_pointer(test.component)] = test.instead;
    EXPECT_TRUE(
        ids_differ_in(test.least, load_bytes(file.dump()), read_json(folder + "/expected.json")))
        << test.kind << " without " << test.component;
  }
}

TEST(TokenizerParity, NamesIdsAndHash) {
  const auto tokenizer = Tokenizer::load(kFixtures + "/llama3");
  const auto file = read_json(kFixtures + "/llama3/tokenizer.json");
  for (const auto& [token, id] : file["model"]["vocab"].items()) {
    EXPECT_EQ(tokenizer.id_of(token), id.get<int>());
    EXPECT_EQ(tokenizer.token(id), token);
    EXPECT_FALSE(tokenizer.is_special(id));
  }
  for (const auto& added : file["added_tokens"]) {
    EXPECT_EQ(tokenizer.id_of(added["content"].get<std::string>()), added["id"].get<int>());
    EXPECT_TRUE(tokenizer.is_special(added["id"]));
  }
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_THROW(tokenizer.token(tokenizer.size()), Error);
  EXPECT_EQ(tokenizer.decode(std::vector<int>{-1, tokenizer.size(), 1 << 30}), "");
  EXPECT_EQ(tokenizer.content_hash(), Tokenizer::load(kFixtures + "/llama3").content_hash());
  EXPECT_NE(tokenizer.content_hash(), Tokenizer::load(kFixtures + "/gpt2").content_hash());
}

// What this thread has computed so far, which waiting for other programs does not lengthen.
double cpu_seconds() {
  timespec now{};
  EXPECT_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// Seconds to encode `part` many times over, the shortest of three: other programs only add.
double encode_seconds(const Tokenizer& tokenizer, const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const double start = cpu_seconds();
    EXPECT_FALSE(tokenizer.encode(text).empty());
    best = std::min(best, cpu_seconds() - start);
  }
  return best;
}

// A heap or a list that is scanned again for each merge takes 64 times as long for 8 times the
// text.
TEST(TokenizerParity, LongWordsTakeNoQuadraticTime) {
  const int times = kSanitized ? 1000 : 4000;
  for (const char* kind : kKinds) {
    const auto tokenizer = Tokenizer::load(kFixtures + "/" + kind);
    for (const std::string part : {"the", "a", "7", "\xe4\xb8\xad", " ", "!", "\n", "\xcc\x81"}) {
      const double brief = encode_seconds(tokenizer, part, times);
      EXPECT_LT(encode_seconds(tokenizer, part, 8 * times), 24 * brief + 1e-3)
          << kind << " '" << part << "'";
    }
  }
}

TEST(TokenizerParity, FourThreadsGiveTheSameIds) {
  const std::string folder = kFixtures + "/llama3";
  const auto tokenizer = Tokenizer::load(folder);
  const auto expected = read_json(folder + "/expected.json");
  std::vector<int> different(4, -1);
  std::vector<std::thread> threads;
  for (auto& count : different)
    threads.emplace_back([&] { count = compare(tokenizer, expected).ids; });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(different, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace svfleet
