// What the tokenizer tests share: the fixtures that scripts/make_tokenizer_fixtures.py writes, and
// folders with an altered tokenizer.json.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

inline const std::string kFixtures = SVFLEET_SOURCE_DIR "/tests/data/tokenizers";
inline const char* const kKinds[] = {"llama3", "qwen2.5", "gpt2",   "smollm2",
                                     "cased",  "llama2",  "mistral"};
// Made of the components of those families, which are those of the kinds above put together anew.
inline const char* const kFamilyKinds[] = {"gemma", "phi3",  "phi4",    "phi4-mini",
                                           "olmo2", "qwen3", "smollm3", "granite"};

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  return nlohmann::json::parse(file);
}

// A folder that is removed with the object.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "svfleet-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline Tokenizer load_bytes(const std::string& bytes) {
  const Folder folder;
  folder.write("tokenizer.json", bytes);
  return Tokenizer::load(folder.path());
}

}  // namespace svfleet
