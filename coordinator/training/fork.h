// A child run: `train --fork PARENT[@STEP]` starts a new run folder from a checkpoint of another
// run, with changed settings, and records where it came from. The parent is only read.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "coordinator/config/command_line.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"

namespace svfleet {

struct ForkPoint {
  std::string run_dir;          // the parent's folder
  std::optional<int64_t> step;  // nothing = its newest good checkpoint
};
// "runs/a" or "runs/a@12".
ForkPoint fork_point(const std::string& text);

// What RunState::parent says of a child: "RUN_ID step N STATE_HASH". A run that started from an
// expert has that expert's hash there, other runs nothing.
struct Lineage {
  std::string run_id;
  int64_t step = 0;
  std::string state_hash;
  std::string text() const;
};
std::optional<Lineage> lineage(const std::string& parent);

// The configuration file to read: CONFIG, or without one that of the parent. A child that is
// started again after its parent was removed has its own.
std::string config_file(const CommandLine& line);

// What can be known before anything is written: the parent is a run, the child's folder is another
// one, and train.init_from is the parent's. Error(kExitUser) otherwise.
void check_fork(const CommandLine& line, const Config& config);

// Collective, rank 0 alone reads. What the child starts from; nothing when it goes on from its own
// checkpoint `found`, or is no child. Error(kExitUser) when the folder's run is not the child that
// was asked for, or is a child that cannot begin without its parent.
struct Fork {
  RunState parent;
  Lineage from;
  std::string run_dir;  // the parent's, absolute
};
std::optional<Fork> open_fork(const CommandLine& line, const RunFolder& folder,
                              const std::optional<RunState>& found, Crew& crew);

// The child's first state: `fresh`, with what the parent had learnt. Error(kExitUser) by name where
// that means nothing: another base model, factor store, choice of matrices, parametrisation or
// core.
RunState child_state(const Fork& fork, RunState fresh, const TrainConfig& train);

// The part of it that needs no factors: the base model.
void check_same_model(const Fork& fork, const std::string& folder, const std::string& model_hash);

// Rank 0, before the child's first checkpoint: its parent, for people and for a start after a kill
// in between. Returns what the log is to say.
nlohmann::json record_parent(const Fork& fork, const RunState& child, const RunFolder& folder);

}  // namespace svfleet
