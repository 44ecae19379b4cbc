// What is not supported is refused by name, in one line, and nothing else happens.
#include "comm/error.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/pretokenize_regex.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string refusal(const std::string& bytes) {
  try {
    load_bytes(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(TokenizerRefusal, NamesWhatIsNotSupported) {
  const auto base = read_json(kFixtures + "/llama2/tokenizer.json");
  EXPECT_EQ(refusal(base.dump()), "accepted");
  const auto with = [&](const char* pointer, const json& value) {
    auto changed = base;
    changed[json::json_pointer(pointer)] = value;
    return refusal(changed.dump());
  };
  const std::pair<std::string, std::string> cases[] = {
      {with("/normalizer", {{"type", "Lowercase"}}), "normalizer 'Lowercase'"},
      {with("/pre_tokenizer", {{"type", "BertPreTokenizer"}}), "pre-tokenizer 'BertPreTokenizer'"},
      {with("/decoder", {{"type", "WordPiece"}}), "decoder 'WordPiece'"},
      {with("/post_processor", {{"type", "RobertaProcessing"}}), "'RobertaProcessing'"},
      {with("/model/type", "Unigram"), "model type 'Unigram'"},
      {with("/model/dropout", 0.1), "'dropout'"},
      {with("/model/continuing_subword_prefix", "##"), "'continuing_subword_prefix'"},
      {with("/model/new_switch", true), "'new_switch'"},
      {with("/extra", 1), "'extra'"},
      {with("/model/vocab", json::object()), "vocab: is empty"},
      {with("/model/vocab/a", -3), "from 0 to"},
      {with("/model/vocab/a", 4000000000u), "from 0 to"},
      {with("/model/vocab/a", 1.5), "whole number"},
      {with("/model/vocab/a", 5), "same id 5"},
      {with("/model/merges/0", "a b c"), "merges[0]"},
      {with("/model/merges/0", "nosuch token"), "'nosuch'"},
      {with("/model/merges", "a b"), "should be a list"},
      {with("/added_tokens/0/id", 77), "expected"},
      {with("/added_tokens/0/lstrip", "yes"), "true or false"},
      {with("/pre_tokenizer", {{"type", "Split"},
                               {"pattern", {{"Regex", "(a"}}},
                               {"behavior", "Isolated"},
                               {"invert", false}}),
       "not valid"},
      {with("/pre_tokenizer", {{"type", "Split"},
                               {"pattern", {{"String", "a"}}},
                               {"behavior", "Sideways"},
                               {"invert", false}}),
       "'Sideways'"},
      {refusal("{\"model\": "), "not valid JSON"},
      {refusal("[]"), "should be an object"},
      {refusal("{}"), "'model' is missing"},
      {refusal(std::string(100000, '[')), "not valid JSON"},
  };
  for (const auto& [got, wanted] : cases)
    EXPECT_NE(got.find(wanted), std::string::npos) << "got '" << got << "', wanted " << wanted;
}

// As transformers 4.57 and 5 add them.
TEST(TokensOfTheConfiguration, AreAddedOrRefused) {
  const auto base = read_json(kFixtures + "/llama2/tokenizer.json");
  const int size = load_bytes(base.dump()).size();
  const std::string bytes = base.dump();
  const auto with = [&](const json& config) {
    const Folder folder;
    folder.write("tokenizer.json", bytes);
    folder.write("tokenizer_config.json", config.dump());
    return Tokenizer::load(folder.path());
  };
  const auto token = [](const char* content, bool special) {
    return json{{"content", content}, {"special", special},   {"normalized", false},
                {"lstrip", false},    {"single_word", false}, {"rstrip", false}};
  };
  const std::string plain_hash = load_bytes(bytes).content_hash();
  // What tokenizer.json has already changes nothing.
  const Tokenizer same =
      with({{"added_tokens_decoder", {{"1", token("<s>", true)}}}, {"bos_token", "<s>"}});
  EXPECT_EQ(same.content_hash(), plain_hash);

  const Tokenizer more =
      with({{"added_tokens_decoder", {{std::to_string(size), token("<newtool>", true)}}}});
  EXPECT_EQ(more.id_of("<newtool>"), size);
  EXPECT_TRUE(more.is_special(size));
  EXPECT_EQ(more.encode("<newtool>"), std::vector<int>{size});
  EXPECT_NE(more.content_hash(), plain_hash);
  EXPECT_FALSE(load_bytes(bytes).id_of("<newtool>"));

  // A named special token that only the vocabulary has.
  const std::string word = load_bytes(bytes).token(700);
  ASSERT_FALSE(load_bytes(bytes).is_special(700));
  const Tokenizer named = with({{"eos_token", word}});
  EXPECT_TRUE(named.is_special(700));

  // llama2's post-processor puts <s> before a text and nothing behind it.
  EXPECT_EQ(load_bytes(bytes).encode("", true), std::vector<int>{1});
  EXPECT_EQ(with({{"bos_token", "<s>"}, {"add_bos_token", true}, {"add_eos_token", false}})
                .disagreement(),
            "");
  EXPECT_NE(with({{"bos_token", "<s>"}, {"add_bos_token", false}})
                .disagreement()
                .find("add_bos_token: false"),
            std::string::npos);
  EXPECT_NE(with({{"eos_token", "</s>"}, {"add_eos_token", true}})
                .disagreement()
                .find("add_eos_token: true"),
            std::string::npos);

  const auto refused = [&](const json& config) -> std::string {
    try {
      with(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
      return error.what();
    }
    return "accepted";
  };
  const std::pair<json, std::string> cases[] = {
      {{{"added_tokens_decoder", {{"7", token("<s>", true)}}}}, "'<s>' has another id, 1"},
      {{{"added_tokens_decoder", {{"90000", token("<newtool>", true)}}}}, "90000"},
      {{{"added_tokens_decoder", {{"x", token("<newtool>", true)}}}}, "'x' is not the id"},
      {json::array(), "not a JSON object"},
  };
  for (const auto& [config, wanted] : cases)
    EXPECT_NE(refused(config).find(wanted), std::string::npos) << refused(config);
}

TEST(TokenizerRefusal, AMissingFileIsNamed) {
  const Folder folder;
  try {
    Tokenizer::load(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos);
  }
}

TEST(TokenizerRefusal, PatternsThatPcre2WouldReadDifferently) {
  for (const char* pattern : {"\\w+",        "\\bfoo",
                              "^a",          "a$",
                              "[[:alpha:]]", "[a&&b]",
                              "(?m:.)",      "(?<name>a)",
                              "\\1",         "\\R",
                              "\\p{Han}",    "\\p{Cn}",
                              "(?i:\\p{L})", "(?i:\xc3\x9f)",
                              "(?i:ss)",     "a{2}?",
                              "a{2,3}+",     "a{x",
                              "[a-\\s]",     "[\\s-z]",
                              "[^\\P{L}]",   "\\u12",
                              "[",           "[]",
                              "\\",          "a)",
                              "(?i)a",       "\\h",
                              "\\Z"}) {
    EXPECT_THROW(translate_onig(pattern, "test"), Error) << pattern;
  }
}

}  // namespace
}  // namespace svfleet
