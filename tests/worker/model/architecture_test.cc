// What is read of config.json: the same model from every spelling of it, or a refusal by name.
#include "worker/model/architecture.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

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
  EXPECT_EQ(arch.rope.kind, RopeKind::kLlama3);
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
  EXPECT_EQ(read().rope.kind, RopeKind::kDefault);
  config_["rope_scaling"] = {{"rope_type", "default"}};
  EXPECT_EQ(read().rope.kind, RopeKind::kDefault);
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

// Factors of Granite, Cohere, Gemma 2 and MiniCPM.
TEST_F(ConfigJson, ScalingsOfOtherFamilies) {
  const double root = 1 / std::sqrt(double(read().head_dim));
  const std::tuple<const char*, json, json> fields[] = {
      {"embedding_multiplier", 12.0, 1.0},
      {"residual_multiplier", 0.22, 1},
      {"logits_scaling", 8, 1},
      {"logit_scale", 0.0625, 1.0},
      {"attention_multiplier", 0.5, root},
      {"query_pre_attn_scalar", 224, read().head_dim},
      {"scale_emb", 12, 1},
      {"lm_head_multiplier", 0.04, 1},
      {"final_logit_softcapping", 30.0, nullptr},
      {"attn_logit_softcapping", 50.0, nullptr},
      {"clip_qkv", 8, nullptr}};
  for (const auto& [name, other, neutral] : fields) {
    EXPECT_THAT(error_with({{name, other}}), HasSubstr(std::string(name) + " ")) << name;
    EXPECT_EQ(error_with({{name, neutral}}), "no error") << name;
    EXPECT_EQ(error_with({{name, nullptr}}), "no error") << name;
  }
}

TEST_F(ConfigJson, NumbersThatSayNothing) {
  for (const auto& [name, value] : {std::pair<const char*, json>{"rms_norm_eps", -1},
                                    {"rms_norm_eps", 0.0},
                                    {"max_position_embeddings", 0},
                                    {"max_position_embeddings", -1},
                                    {"rope_theta", 0},
                                    {"rope_theta", -10000.0}})
    EXPECT_THAT(error_with({{name, value}}), HasSubstr("above 0")) << name;
  config_["model_type"] = "mistral";
  EXPECT_THAT(error_with({{"sliding_window", -4}}), HasSubstr("sliding_window -4 must be above 0"));
  EXPECT_THAT(error_with({{"sliding_window", 0}}), HasSubstr("sliding_window 0"));
  config_["model_type"] = "qwen2";  // in use only where it says so
  EXPECT_EQ(error_with({{"sliding_window", -4}}), "no error");
  EXPECT_THAT(error_with({{"sliding_window", -4}, {"use_sliding_window", true}}),
              HasSubstr("sliding_window -4"));
}

// As the classes LlamaConfig, MistralConfig and Qwen2Config of transformers 4.57 have them.
TEST_F(ConfigJson, NumbersOfAnotherTypeAreRefused) {
  for (const auto& [name, value] : {std::pair<const char*, json>{"num_hidden_layers", 2.9},
                                    {"num_hidden_layers", true},
                                    {"hidden_size", "64"},
                                    {"max_position_embeddings", 512.5},
                                    {"num_key_value_heads", true},
                                    {"rms_norm_eps", true}})
    EXPECT_THAT(
        error_with({{name, value}}),
        HasSubstr("field '" + std::string(name) + "' has an unexpected type: " + value.dump()));
  EXPECT_EQ(error_with({{"max_position_embeddings", nullptr}}), "no error");
  EXPECT_EQ(error_with({{"rope_theta", config_["rope_theta"].get<int64_t>()}}), "no error");
}

TEST_F(ConfigJson, FieldsThatAreMissing) {
  for (const char* name : {"rms_norm_eps", "rope_theta", "rope_scaling", "sliding_window",
                           "max_position_embeddings", "num_key_value_heads", "use_sliding_window"})
    config_.erase(name);
  config_["num_attention_heads"] = 32;
  config_["head_dim"] = 4;
  const auto as = [&](const char* type) {
    config_["model_type"] = type;
    return read();
  };
  for (const char* type : {"llama", "mistral", "qwen2"}) {
    EXPECT_EQ(as(type).rms_epsilon, 1e-6);
    EXPECT_EQ(as(type).rope_theta, 10000);
    EXPECT_EQ(as(type).max_positions, 0);
  }
  EXPECT_EQ(as("llama").sliding_window, 0);
  EXPECT_EQ(as("mistral").sliding_window, 4096);
  EXPECT_EQ(as("qwen2").sliding_window, 0);
  config_["use_sliding_window"] = true;
  EXPECT_EQ(as("qwen2").sliding_window, 4096);
  EXPECT_EQ(as("llama").kv_heads, 32);
  EXPECT_EQ(as("mistral").kv_heads, 8);
  EXPECT_EQ(as("qwen2").kv_heads, 32);
  config_["num_key_value_heads"] = nullptr;
  config_["sliding_window"] = nullptr;
  EXPECT_EQ(as("mistral").kv_heads, 32);
  EXPECT_EQ(as("mistral").sliding_window, 0);
}

// The two files of one hash are told apart.
TEST_F(ConfigJson, ShapeIsWhatTheStopTokensAreNot) {
  const Architecture before = read();
  EXPECT_EQ(before.stops_from, "generation_config.json");
  std::ofstream(folder_ + "/generation_config.json") << R"({"eos_token_id": [1, 2]})";
  EXPECT_EQ(read().shape(), before.shape());
  EXPECT_NE(read().content_hash(), before.content_hash());
  config_["rms_norm_eps"] = 1e-4;
  EXPECT_NE(read().shape(), before.shape());
}

TEST_F(ConfigJson, StopTokensOutsideTheVocabulary) {
  std::filesystem::remove(folder_ + "/generation_config.json");
  EXPECT_EQ(error(), "no error");
  // The last would be token 2 of 32 bits.
  for (const json& ids : {json(320), json(-1), json{319, 128009}, json(4294967298)})
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
