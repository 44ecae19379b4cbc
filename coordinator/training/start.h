// Where training begins or goes on: a checkpoint, a parent's, an expert, or the base model.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/training/opening.h"

namespace svfleet {

struct Start {
  RunState state;
  bool resumed = false;
  std::vector<std::string> different;               // from the hardware and build of the run so far
  std::string forgotten;                            // why the best so far no longer counts ...
  std::string former_best;                          // ... and where its expert is kept
  nlohmann::json event = nlohmann::json::object();  // for the log
};

// Error(kExitUser) naming what is another than the run, or its parent, was made with.
Start state_to_start_from(Opened& opened, const TrainingPlan& plan, const RunFolder& folder,
                          const CommandLine& line, const Config& config, bool leads);

// Rank 0: this start goes on, or begins, from here.
void tell_start(const Opened& opened, const TrainingPlan& plan, Start& start,
                const RunFolder& folder, const Config& config, Crew& crew, Telling& tell);

}  // namespace svfleet
