// The solved examples that a mixture is searched with.
#pragma once

#include <string>

#include "coordinator/config/config.h"
#include "rl/task.h"

namespace svfleet {

// The file's items, read as the configuration's only task reads its own. Error(kExitUser) with
// file:line where there are several tasks, a shot has no answer, or a shot (or another wording of
// it: its cluster) stands in the task's test split or in the split that is to be measured.
Task load_shots(const Config& config, const std::string& file);

}  // namespace svfleet
