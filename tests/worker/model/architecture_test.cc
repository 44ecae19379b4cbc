// What is read of config.json: the same model from every spelling of it, or a refusal by name.
#include "worker/model/architecture.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class ConfigJson : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "svfleet_config_json";
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(SVFLEET_SOURCE_DIR "/tests/data/models/tiny_llama3", folder_);
    std::ifstream(folder_ + "/config.json") >> config_;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Architecture read() const {
    std::filesystem::remove(folder_ + "/config.json");
    std::ofstream(folder_ + "/config.json") << config_;
    return read_architecture(folder_);
  }
  std::string error() const {
    try {
      read();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "no error";
  }
  std::string error_with(const json& changes) {
    const json before = config_;
    config_.update(changes);
    const std::string text = error();
    config_ = before;
    return text;
  }
  std::string folder_;
  json config_;
};

// The fields as transformers 4.57 wrote them, in the fixture.
void expect_llama3(const Architecture& arch) {
  EXPECT_TRUE(arch.rope.llama3);
  EXPECT_EQ(arch.rope.factor, 8);
  EXPECT_EQ(arch.rope.low_freq_factor, 1);
  EXPECT_EQ(arch.rope.high_freq_factor, 4);
  EXPECT_EQ(arch.rope.original_max_position, 64);
  EXPECT_EQ(arch.rope_theta, 500000);
}

TEST_F(ConfigJson, RopeInTheWordsOfEveryVersion) {
  expect_llama3(read());
  const json scaling = config_["rope_scaling"];
  for (const json& parameters :
       {json(), json::object(), json{{"rope_type", "default"}},
        json{{"rope_type", "default"}, {"rope_theta", 500000.0}}, scaling}) {
    config_["rope_parameters"] = parameters;
    expect_llama3(read());
  }
  // Version 5 alone.
  config_["rope_parameters"] = scaling;
  config_["rope_parameters"]["rope_theta"] = 500000.0;
  config_.erase("rope_theta");
  for (const json& old : {json(), json::object()}) {
    config_["rope_scaling"] = old;
    expect_llama3(read());
  }
  config_.erase("rope_scaling");
  expect_llama3(read());
  config_.erase("rope_parameters");
  config_["rope_theta"] = 10000;
  EXPECT_FALSE(read().rope.llama3);
  config_["rope_scaling"] = {{"rope_type", "default"}};
  EXPECT_FALSE(read().rope.llama3);
}

TEST_F(ConfigJson, RopeThatIsIncompleteOrContradictsItself) {
  for (const char* name :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    json scaling = config_["rope_scaling"];
    scaling.erase(name);
    EXPECT_THAT(error_with({{"rope_scaling", scaling}}),
                HasSubstr("rope_scaling of type llama3 has no " + std::string(name)));
    scaling[name] = 0;
    EXPECT_THAT(error_with({{"rope_scaling", scaling}}), HasSubstr(name));
  }
  json other = config_["rope_scaling"];
  other["factor"] = 4;
  EXPECT_THAT(error_with({{"rope_parameters", other}}), HasSubstr("differ"));
  EXPECT_THAT(error_with({{"rope_parameters", config_["rope_scaling"]},
                          {"rope_scaling", {{"type", "default"}}}}),
              HasSubstr("differ"));
  EXPECT_THAT(error_with({{"rope_parameters", {{"rope_theta", 10000}}}}), HasSubstr("rope_theta"));
  EXPECT_THAT(error_with({{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}),
              HasSubstr("kinds of layers"));
  EXPECT_THAT(error_with({{"rope_scaling", {{"factor", 8}}}}), HasSubstr("no rope_type"));
  EXPECT_THAT(error_with({{"rope_scaling", {{"type", "yarn"}, {"rope_type", "llama3"}}}}),
              HasSubstr("both rope_type"));
  EXPECT_THAT(error_with({{"rope_scaling", "llama3"}}), HasSubstr("must be an object"));
  EXPECT_THAT(error_with({{"original_max_position_embeddings", 4096}}), HasSubstr("differs"));
  EXPECT_EQ(error_with({{"original_max_position_embeddings", 64}}), "no error");
}

TEST_F(ConfigJson, WhatChangesTheFunctionIsRefused) {
  EXPECT_THAT(error_with({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor 0.5"));
  json scaling = config_["rope_scaling"];
  scaling["partial_rotary_factor"] = 0.25;
  EXPECT_THAT(error_with({{"rope_scaling", scaling}}), HasSubstr("partial_rotary_factor 0.25"));
  EXPECT_THAT(error_with({{"is_causal", false}}), HasSubstr("is_causal"));
  EXPECT_THAT(error_with({{"layer_types", {"full_attention", "linear_attention"}}}),
              HasSubstr("'linear_attention'"));
  EXPECT_THAT(error_with({{"quantization_config", {{"bits", 4}}}}), HasSubstr("quantization"));
  EXPECT_THAT(error_with({{"num_experts", 8}}), HasSubstr("mixture-of-experts"));
}

TEST_F(ConfigJson, WhatDoesNotIsPassedOver) {
  for (const char* name : {"quantization_config", "compression_config", "num_experts",
                           "num_local_experts", "layer_types", "partial_rotary_factor"})
    EXPECT_EQ(error_with({{name, nullptr}}), "no error") << name;
  EXPECT_EQ(error_with({{"partial_rotary_factor", 1.0}}), "no error");
  EXPECT_EQ(error_with({{"layer_types", {"full_attention", "full_attention"}}}), "no error");
}

TEST_F(ConfigJson, StopTokensOutsideTheVocabulary) {
  std::filesystem::remove(folder_ + "/generation_config.json");
  EXPECT_EQ(error(), "no error");
  for (const json& ids : {json(320), json(-1), json{319, 128009}})
    EXPECT_THAT(error_with({{"eos_token_id", ids}}), HasSubstr("is outside the vocabulary of 320"));
}

TEST_F(ConfigJson, FilesThatAreNotThemselves) {
  std::filesystem::remove(folder_ + "/config.json");
  std::ofstream(folder_ + "/config.json")
      << "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 700\n";
  try {
    read_architecture(folder_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("config.json' is a Git LFS pointer"));
  }
  const auto folder_error = [](const std::string& folder) -> std::string {
    try {
      read_architecture(folder);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(folder_error("no-such-owner/Llama-3.2-1B"), HasSubstr("hf download no-such-owner/"));
  EXPECT_THAT(folder_error("./models/none"), HasSubstr("there is no model folder './models/none'"));
  EXPECT_THAT(folder_error("/a/b"), ::testing::Not(HasSubstr("hf download")));
}

}  // namespace
}  // namespace svfleet
