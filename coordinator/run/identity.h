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
  std::string gpu;  // model of the GPU, empty = none is used
};

// Canonical JSON (keys sorted): cpu, instruction sets, caches, switches in the environment, program
// hash, torch, threads, tensor width, gpu.
std::string identity(const IdentityInput& input);

// Hash of the running program's file; computed once.
std::string program_hash();

// One entry for each key in which two JSON objects differ: "threads: 1 here, 2 in the run". `mine`
// and `theirs` say whose value is whose. Works on identities and on bits_config.
std::vector<std::string> differences(const std::string& a, const std::string& b,
                                     const std::string& mine = "here",
                                     const std::string& theirs = "in the run");

}  // namespace svfleet
