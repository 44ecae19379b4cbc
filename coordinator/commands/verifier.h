// All that a run rests on: what there is to read again, and what is wrong with each piece.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoints/safetensors.h"
#include "coordinator/config/config.h"
#include "svd/store.h"

namespace svfleet {

constexpr const char* kKinds[] = {"model", "factors", "checkpoints", "chunks", "experts"};

std::string folder_of(const Config& config, const std::string& kind);

// Of experts/ what a run writes and must still have: the last one of a run that is finished, and
// the best one where there is one. With the step whose z it is.
std::map<std::string, int64_t> wanted_experts(const Config& config);

// What is to be read, as rank 0 has found it: [kind, name] each. Other nodes may see an old
// listing. Files of others in the run's folders are told as `foreign`, and are not ours to judge.
nlohmann::json find_all(const Config& config, const FactorStore::Manifest& manifest,
                        const std::vector<Target>& targets,
                        const std::map<std::string, int64_t>& wanted, nlohmann::json& foreign);

class Verifier {
 public:
  Verifier(const Config& config, std::vector<Target> targets, FactorStore::Manifest manifest,
           std::map<std::string, int64_t> wanted_experts);

  // What is wrong, in one line, or nothing. Thread-safe.
  std::string problem(const std::string& kind, const std::string& name) const;

 private:
  std::string other_model(const std::string& what, const std::string& hash) const;

  const Config& config_;
  const SafetensorsFolder files_;
  const FactorStore store_;
  const FactorStore::Manifest manifest_;
  const std::map<std::string, int64_t> wanted_;
  std::map<std::string, Target> targets_;
};

}  // namespace svfleet
