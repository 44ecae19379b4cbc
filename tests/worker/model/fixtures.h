// The tiny models and transformers' numbers for them: tests/data/models.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/model/decoder.h"
#include "worker/model/read_weight.h"

namespace svfleet {

inline const char* const kTinyModels[] = {"tiny_llama3", "tiny_qwen2", "tiny_mistral",
                                          "tiny_llama_plain"};

// scripts/bundle takes tests to machines that have no checkout.
inline std::string source_folder() {
  const char* given = std::getenv("SVFLEET_SOURCE");
  return given ? given : SVFLEET_SOURCE_DIR;
}

inline std::string tiny_folder(const std::string& name) {
  return source_folder() + "/tests/data/models/" + name;
}

inline nlohmann::json read_fixture(const std::string& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

// Folder of SmolLM2-135M-Instruct, or empty where scripts/fetch_model has not been run.
inline std::string real_model() {
  const char* given = std::getenv("SVFLEET_MODEL");
  std::string folder = given ? given : SVFLEET_SOURCE_DIR "/models/SmolLM2-135M-Instruct";
  return std::filesystem::exists(folder + "/config.json") ? folder : "";
}

// Factors of all matrices that `targets` names.
inline std::vector<Factor> decompose_all(const Weights& weights, std::vector<std::string> targets,
                                         at::ScalarType storage = at::kFloat,
                                         const std::string& layers = "all") {
  std::vector<Factor> factors;
  const Architecture& arch = weights.architecture();
  for (const Target& target : choose_targets(targets, layers, arch.layers, arch.linear_shapes()))
    factors.push_back(decompose(
        target, read_weight(weights.files(), target.name, {target.rows, target.cols}, at::kDouble),
        storage));
  return factors;
}

// Hidden states [tokens, hidden] of a sequence of its own, and the logits of all of it.
inline at::Tensor hidden_of(const Weights& weights, const Adapter& adapter,
                            const std::vector<int>& tokens, int entry = kOnlyExpert) {
  PagePool pool(weights);
  const TreePass tree({{tokens, -1, entry}}, pool);
  return forward(weights, adapter, tree.pass(), pool);
}
inline at::Tensor logits_of(const Weights& weights, const Adapter& adapter,
                            const std::vector<int>& tokens, int entry = kOnlyExpert) {
  return weights.head().logits(hidden_of(weights, adapter, tokens, entry));
}

// A tiny model, the bases of all its matrices, and an expert that can be put in force in any form.
struct Adapted {
  Weights weights;
  Basis basis;
  std::vector<float> z;

  Adapted(const std::string& name, at::ScalarType type, at::Device device = at::kCPU,
          std::vector<std::string> targets = {"all"}, const std::string& layers = "all")
      : weights(tiny_folder(name), type, device),
        basis(decompose_all(weights, std::move(targets), at::kFloat, layers), weights),
        z(size_t(total_length(basis.targets())), 1.0f) {}

  // For z as it is now; the adapters given before are then of no more use.
  Adapter adapter(Apply apply) {
    table_ = std::make_unique<ExpertTable>(basis);
    table_->add(z);
    if (apply == Apply::kMerged) merged_ = Merged(weights, basis, z);
    return {apply, table_.get(), &merged_};
  }

 private:
  std::unique_ptr<ExpertTable> table_;
  Merged merged_;
};

}  // namespace svfleet
