// Prompts that stand in two splits: what is measured on them may be memory, not skill.
#pragma once

#include <string>
#include <vector>

#include "coordinator/config/config.h"
#include "rl/task.h"

namespace svfleet {

// A line for each two splits of the tasks that share prompts, with their number and the first one's
// places; `with`: only those that share them with this split. A split that cannot be read is left
// out: not every command needs every split. `train`: where the whole train split of each task has
// been read already.
std::vector<std::string> prompts_in_two_splits(const Config& config, const std::string& with = "",
                                               const std::vector<Task>* train = nullptr);

}  // namespace svfleet
