// Where training begins or goes on: a checkpoint, a parent's, an expert, or the base model.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/training/opening.h"

namespace svfleet {

// A best so far that no longer counts.
struct FormerBest {
  std::string expert;  // whose; empty: of the only one
  std::string why;     // and what it was
  int64_t step = -1;
};

struct Start {
  RunState state;
  bool resumed = false;
  std::vector<std::string> different;               // from the hardware and build of the run so far
  std::vector<FormerBest> forgotten;                // by expert
  nlohmann::json event = nlohmann::json::object();  // for the log
};

// Error(kExitUser) naming what is another than the run, or its parent, was made with.
Start state_to_start_from(Opened& opened, const std::vector<ExpertPlan>& experts,
                          const RunFolder& folder, const CommandLine& line, const Config& config,
                          bool leads);

// Rank 0: this start goes on, or begins, from here.
void tell_start(const Opened& opened, const std::vector<ExpertPlan>& experts, Start& start,
                const RunFolder& folder, const Config& config, Crew& crew, Telling& tell);

}  // namespace svfleet
