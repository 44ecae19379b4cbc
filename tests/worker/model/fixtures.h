// The tiny models and transformers' numbers for them: tests/data/models.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/model/model.h"
#include "worker/model/weights.h"

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
inline std::vector<Factor> decompose_all(const Model& model, std::vector<std::string> targets,
                                         at::ScalarType storage = at::kFloat) {
  std::vector<Factor> factors;
  const Architecture& arch = model.architecture();
  for (const Target& target : choose_targets(targets, "all", arch.layers, arch.linear_shapes()))
    factors.push_back(decompose(
        target, read_weight(model.files(), target.name, {target.rows, target.cols}, at::kDouble),
        storage));
  return factors;
}

}  // namespace svfleet
