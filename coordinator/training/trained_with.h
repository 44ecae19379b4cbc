// Whether a model's folder and a task's data are still what a run was trained with, for commands
// that use a run without going on with it. (What a resume compares: training_plan.h.)
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoints/run_state.h"
#include "coordinator/base/base.h"

namespace svfleet {

// Files of the model's folder that are not what the run was trained with; none where model.path,
// model.chat_template or model.chat_format is set to something else than in the run, which is a
// wish.
std::vector<std::string> changed_model_files(const RunState& run, const Config& config,
                                             const FolderHashes& now);

// One line for each task whose training or validation items are others than in the run, or are
// gone.
std::vector<std::string> changed_items(const RunState& run);

// The run in config.run_dir, if there is one. Error(kExitUser) naming the files of the model's
// folder that have changed since.
std::optional<RunState> check_trained_with(const Config& config, const FolderHashes& now);

}  // namespace svfleet
