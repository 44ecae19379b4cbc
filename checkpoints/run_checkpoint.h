// A run's states as files: checkpoints/step-NNNNNN.h5 holds the state after NNNNNN finished steps.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/run_state.h"

namespace svfleet {

std::string checkpoint_path(const std::string& run_dir, int64_t step);
void save_checkpoint(const std::string& run_dir, const RunState& state);

// Steps that have a checkpoint, oldest first; it may be damaged.
std::vector<int64_t> checkpoint_steps(const std::string& run_dir);
RunState load_checkpoint(const std::string& run_dir, int64_t step);

struct NewestCheckpoint {
  std::optional<RunState> state;
  std::vector<std::string> damaged;  // one line each: path and reason; passed over
  std::vector<std::string> wrong;    // of these, the files that read well and hold no checkpoint
  // The first Error of a file that could not be read at all: it may be whole, and this machine
  // alone may fail to read it.
  std::exception_ptr unread;
};
// The newest checkpoint that reads back whole; older ones only if newer ones are damaged.
NewestCheckpoint load_newest_checkpoint(const std::string& run_dir);

// Removes all but the last `keep` and those of the steps `best`, and, as what a run may have to go
// back to, the newest good one of `clean_step` or before with those of its own best steps. Call
// after a newer one is safe.
void prune_checkpoints(const std::string& run_dir, int keep, const std::vector<int64_t>& best,
                       int64_t clean_step = -1);

}  // namespace svfleet
