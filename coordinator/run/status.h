// How a run stands, seen from any machine that sees its folder; nothing is changed by looking.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/owner.h"
#include "cluster/exit_report.h"
#include "coordinator/run/account.h"
#include "coordinator/run/log_index.h"
#include "coordinator/run/pulse.h"

namespace svfleet {

inline constexpr size_t kStepsShown = 5;

struct Status {
  std::string path;
  std::string state,
      advice;  // for people: "silent for 3:20", and what to do about it; may be empty
  bool live = false, finished = false, stop_asked = false;
  std::optional<SignOfLife> sign;
  std::optional<OwnerSeen> owner;
  std::optional<ExitReport> exit;
  Account account;
  std::vector<int64_t> checkpoints;
  int64_t kept_chunks = 0;                         // finished since the newest of them
  std::vector<nlohmann::json> steps;               // the last kStepsShown of the log, oldest first
  nlohmann::json validation;                       // the last one, or null; of several experts null
  nlohmann::json best;                             // the one that chose the best expert, or null
  std::map<std::string, LastEvaluations> experts;  // by name, of several
};

// Error(kExitUser) when `run_dir` is not a run folder.
Status look_at_run(std::string run_dir);

// "job 17, restart 2"; "" outside Slurm.
std::string job_text(const std::string& job, int64_t restarts);

}  // namespace svfleet
