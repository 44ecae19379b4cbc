// What may alter the bits of a result although the configuration is the same: processor, program
// and switches of the libraries. A run may be resumed, and ranks may work together, only where this
// is equal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

struct IdentityInput {
  std::string torch_version;
  int64_t threads = 1;
  std::string gpu;             // model of the GPU, empty = none is used
  std::string libraries = {};  // what else computes on the CPU; empty where nothing does
};

// Canonical JSON (keys sorted): cpu, instruction sets, caches, switches in the environment, program
// hash, torch, threads, tensor width, gpu.
std::string identity(const IdentityInput& input);

// Hash of the running program's file; computed once.
std::string program_hash();

// What is read from a model's folder besides the weights, as hashes; empty = not known.
struct FolderHashes {
  std::string config;         // what config.json and generation_config.json say
  std::string tokenizer;      // tokenizer.json, byte by byte
  std::string chat_template;  // "none" where no task uses it
  std::string shape;          // of Architecture: tells the two files of `config` apart
};

// "config.json" or "generation_config.json", in which two that differ in `config` do; empty where
// one of the shapes is not known.
std::string changed_config_file(const std::string& shape_now, const std::string& shape_before);

// The files of the model's folder in which the two differ: "'M/tokenizer.json'". What one of the
// two does not know is passed over.
std::vector<std::string> changed_files(const std::string& folder, const FolderHashes& now,
                                       const FolderHashes& before);

// One entry for each key in which two JSON objects differ: "threads: 1 here, 2 in the run". `mine`
// and `theirs` say whose value is whose. Works on identities and on bits_config.
std::vector<std::string> differences(const std::string& a, const std::string& b,
                                     const std::string& mine = "here",
                                     const std::string& theirs = "in the run");

}  // namespace svfleet
