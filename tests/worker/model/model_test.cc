// Logits and greedy tokens against transformers (float32, eager attention).
#include "worker/model/decoder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstring>
#include <functional>
#include <iostream>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "tests/worker/model/fixtures.h"
#include "worker/model/generate.h"
#include "worker/model/gradient.h"

namespace svfleet {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

at::Tensor logits_of(const Weights& model, const std::vector<int>& ids) {
  return svfleet::logits_of(model, Adapter(), ids);
}

// Largest gap relative to the largest logit of the fixture's rows.
double logit_gap(const Weights& model, const json& rows) {
  double gap = 0, largest = 0;
  for (const json& row : rows) {
    at::Tensor logits = logits_of(model, row.at("ids").get<std::vector<int>>()).to(at::kFloat);
    for (size_t i = 0; i < row.at("positions").size(); ++i) {
      const auto expected = row["logits"][i].get<std::vector<float>>();
      const float* ours = logits[row["positions"][i].get<int64_t>()].contiguous().data_ptr<float>();
      EXPECT_EQ(int64_t(expected.size()), logits.size(1));
      for (size_t j = 0; j < expected.size(); ++j) {
        gap = std::max(gap, double(std::abs(ours[j] - expected[j])));
        largest = std::max(largest, double(std::abs(expected[j])));
      }
    }
  }
  return gap / largest;
}

TEST(Logits, AreTransformers) {
  for (const char* name : kTinyModels) {
    Weights model(tiny_folder(name), at::kFloat);
    json expected = read_fixture(tiny_folder(name) + "/expected.json");
    EXPECT_LT(logit_gap(model, expected["logits"]), 2e-4) << name;
  }
}

// Control: the same numbers do not come out of another model, nor without one of its traits.
TEST(Logits, TheComparisonNoticesAnotherModel) {
  Weights model(tiny_folder("tiny_mistral"), at::kFloat);
  json expected = read_fixture(tiny_folder("tiny_llama_plain") + "/expected.json");
  EXPECT_GT(logit_gap(model, expected["logits"]), 0.1);
}

TEST(Logits, BFloat16IsClose) {
  for (const char* name : kTinyModels) {
    Weights model(tiny_folder(name), at::kBFloat16);
    json expected = read_fixture(tiny_folder(name) + "/expected.json");
    EXPECT_LT(logit_gap(model, expected["logits"]), 0.08) << name;
  }
}

struct GreedyCount {
  int tokens = 0, different = 0, near_ties = 0;
};

// A token may differ only where the two best logits are within 1e-4; the rest of that reply is
// then another text and is not compared.
GreedyCount compare_greedy(const Weights& model, const Tokenizer& tokenizer, const json& cases,
                           size_t batch) {
  GreedyCount count;
  SamplingOptions greedy{.temperature = 0};
  for (size_t first = 0; first < cases.size(); first += batch) {
    std::vector<Prompt> prompts;
    for (size_t i = first; i < std::min(cases.size(), first + batch); ++i)
      prompts.push_back({cases[i]["ids"].get<std::vector<int>>(), int64_t(i), 64, {}});
    auto rollouts = generate(model, tokenizer, Adapter(), prompts, 1, greedy);
    for (size_t i = 0; i < rollouts.size(); ++i) {
      const json& expected = cases[first + i];
      auto tokens = expected["tokens"].get<std::vector<int>>();
      for (size_t t = 0; t < tokens.size(); ++t) {
        ++count.tokens;
        if (t < rollouts[i].tokens.size() && rollouts[i].tokens[t] == tokens[t]) continue;
        if (expected["gaps"][t].get<double>() < 1e-4)
          ++count.near_ties;
        else
          ++count.different;
        break;
      }
      if (rollouts[i].tokens.size() > tokens.size()) ++count.different;
    }
  }
  return count;
}

TEST(Greedy, TokensAreTransformersAloneAndInABatch) {
  for (const char* name : kTinyModels) {
    Weights model(tiny_folder(name), at::kFloat);
    Tokenizer tokenizer = Tokenizer::load(tiny_folder(name));
    json expected = read_fixture(tiny_folder(name) + "/expected.json");
    for (size_t batch : {1, 7, 20}) {
      GreedyCount count = compare_greedy(model, tokenizer, expected["greedy"], batch);
      EXPECT_EQ(count.different, 0) << name << " in batches of " << batch;
      EXPECT_LE(count.near_ties, 1);
      EXPECT_GT(count.tokens, 400);
    }
  }
}

TEST(LogProbs, OfGivenRepliesAreTransformers) {
  for (const char* name : kTinyModels) {
    Weights model(tiny_folder(name), at::kFloat);
    json expected = read_fixture(tiny_folder(name) + "/expected.json");
    std::vector<std::vector<int>> prompts, replies;
    for (const json& row : expected["logprobs"]) {
      prompts.push_back(row["ids"].get<std::vector<int>>());
      replies.push_back(row["continuation"].get<std::vector<int>>());
    }
    std::vector<ReplyGroup> groups;
    for (size_t i = 0; i < prompts.size(); ++i)
      groups.push_back({&prompts[i], {{&replies[i]}, {&replies[i]}}});  // shared prompt, twice
    auto ours = reply_log_probs(model, Adapter(), groups, 1);
    for (size_t i = 0; i < prompts.size(); ++i)
      for (const auto& reply : ours[i])
        for (size_t t = 0; t < replies[i].size(); ++t)
          EXPECT_NEAR(reply[t], expected["logprobs"][i]["logprobs"][t].get<double>(), 1e-4);
  }
}

class RealModel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (real_model().empty()) GTEST_SKIP() << "no SmolLM2 folder: run scripts/fetch_model";
  }
};

TEST_F(RealModel, LogitsAndGreedyTokensAreTransformers) {
  Weights model(real_model(), at::kFloat);
  Tokenizer tokenizer = Tokenizer::load(real_model());
  json expected = read_fixture(SVFLEET_SOURCE_DIR "/tests/data/models/smollm2_expected.json");
  double gap = 0, largest = 0;
  for (const json& row : expected["greedy"]) {
    auto ids = row["ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>()), ids);
    at::Tensor last = logits_of(model, ids)[int64_t(ids.size()) - 1].contiguous();
    for (size_t i = 0; i < expected["vocab_ids"].size(); ++i) {
      float ours = last[expected["vocab_ids"][i].get<int64_t>()].item<float>();
      gap = std::max(gap, std::abs(double(ours) - row["last_logits"][i].get<double>()));
    }
    largest = std::max(largest, row["largest_logit"].get<double>());
  }
  EXPECT_LT(gap / largest, 2e-4);
  GreedyCount count = compare_greedy(model, tokenizer, expected["greedy"], 10);
  EXPECT_EQ(count.different, 0);
  std::cout << "SmolLM2: largest logit gap " << gap / largest << " of the largest logit; "
            << count.tokens << " greedy tokens, " << count.near_ties << " near ties\n";
}

// --- what is refused -----------------------------------------------------------------------------

class BadFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "svfleet_bad_model";
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(tiny_folder("tiny_qwen2"), folder_);
    config_ = read_fixture(folder_ + "/config.json");
    config_.erase("layer_types");  // which would contradict other numbers of layers
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string error_with(const char* field, const json& value) {
    json config = config_;
    config[field] = value;
    std::ofstream(folder_ + "/config.json") << config;
    try {
      Weights model(folder_, at::kFloat);
      return "no error";
    } catch (const Error& error) {
      EXPECT_NE(error.code(), kExitInternal);
      return error.what();
    }
  }
  void edit_header(const std::function<void(json*)>& change) {
    const std::string path = folder_ + "/model.safetensors", bytes = read_file(path);
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    json header = json::parse(bytes.substr(8, size));
    change(&header);
    write(header, bytes.substr(8 + size));
  }
  void add_tensor(const std::string& name, const std::string& dtype,
                  const std::vector<int64_t>& shape, std::string content = "") {
    const std::string path = folder_ + "/model.safetensors", bytes = read_file(path);
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    json header = json::parse(bytes.substr(8, size));
    const std::string data = bytes.substr(8 + size);
    size_t length = dtype == "I64" ? 8 : dtype == "F32" ? 4 : 1;
    for (const int64_t n : shape) length *= size_t(n);
    if (content.empty()) content.assign(length, 1);
    header[name] = {{"dtype", dtype},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + content.size()}}};
    write(header, data + content);
  }
  void flip_last_byte() {
    const std::string path = folder_ + "/model.safetensors";
    std::string bytes = read_file(path);
    bytes.back() ^= 1;
    std::ofstream(path, std::ios::binary) << bytes;
  }
  void write(const json& header, const std::string& data) {
    const std::string text = header.dump();
    const uint64_t size = text.size();
    std::filesystem::remove(folder_ + "/model.safetensors");  // it may be mapped
    std::ofstream(folder_ + "/model.safetensors", std::ios::binary)
        << std::string(reinterpret_cast<const char*>(&size), 8) << text << data;
  }
  std::string folder_;
  json config_;
};

TEST_F(BadFolder, IsRefusedByName) {
  auto names = [&](const char* field, const json& value, const char* text) {
    std::string error = error_with(field, value);
    EXPECT_NE(error.find(text), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  };
  names("model_type", "gpt2", "gpt2");
  names("hidden_act", "gelu", "gelu");
  names("mlp_bias", true, "mlp_bias");
  names("rope_scaling", {{"rope_type", "ntk"}, {"factor", 4}}, "ntk");
  names("num_key_value_heads", 3, "num_key_value_heads");
  names("hidden_size", "wide", "hidden_size");
  names("num_hidden_layers", nullptr, "num_hidden_layers");
  names("quantization_config", {{"bits", 4}}, "quantization_config");
  names("intermediate_size", 96, "gate_proj");      // shapes do not fit config.json
  names("num_hidden_layers", 9, "model.layers.3");  // layers that are not in the files
  std::filesystem::resize_file(folder_ + "/model.safetensors", 5000);
  names("model_type", "qwen2", "model.safetensors");  // truncated
}

TEST_F(BadFolder, TensorsThatNothingReads) {
  const auto error = [&] { return error_with("model_type", "qwen2"); };
  EXPECT_EQ(error(), "no error");
  // What older versions of transformers saved beside the weights.
  add_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {8});
  add_tensor("model.position_ids", "I64", {1, 16});
  add_tensor("model.layers.0.self_attn.bias", "BOOL", {4});
  EXPECT_EQ(error(), "no error");
  EXPECT_THAT(error_with("num_hidden_layers", 1),
              HasSubstr("belongs to layer 1, but config.json says num_hidden_layers 1"));
  add_tensor("model.layers.0.self_attn.q_norm.weight", "F32", {16});
  EXPECT_THAT(error(), HasSubstr("'model.layers.0.self_attn.q_norm.weight' is not part of"));
}

TEST_F(BadFolder, TypesOfQuantisedWeights) {
  add_tensor("model.layers.0.mlp.scale", "F8_E4M3", {1});
  EXPECT_THAT(error_with("model_type", "qwen2"), HasSubstr("mlp.scale' is not part of"));
}

TEST_F(BadFolder, HeadsUnderTiedEmbeddings) {
  const auto error = [&] { return error_with("tie_word_embeddings", true); };
  ASSERT_EQ(error(), "no error");
  const std::string hash = Weights(folder_, at::kFloat).hash();
  // Only under the other name.
  edit_header([](json* header) {
    (*header)["lm_head.weight"] = (*header)["model.embed_tokens.weight"];
    header->erase("model.embed_tokens.weight");
  });
  EXPECT_EQ(error(), "no error");
  EXPECT_EQ(Weights(folder_, at::kFloat).hash(), hash);
  edit_header([](json* header) {
    (*header)["model.embed_tokens.weight"] = (*header)["lm_head.weight"];
    header->erase("lm_head.weight");
  });
  // Both: equal ones are one, others are not.
  const SafetensorsFolder files(folder_);
  const TensorView& embedding = files.at("model.embed_tokens.weight");
  const std::string bytes(reinterpret_cast<const char*>(embedding.data), embedding.bytes);
  add_tensor("lm_head.weight", embedding.dtype, embedding.shape, bytes);
  EXPECT_EQ(error(), "no error");
  EXPECT_EQ(Weights(folder_, at::kFloat).hash(), hash);
  flip_last_byte();
  EXPECT_THAT(error(), HasSubstr("'lm_head.weight' differs from 'model.embed_tokens.weight'"));
}

}  // namespace
}  // namespace svfleet
