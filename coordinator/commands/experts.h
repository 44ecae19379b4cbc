// The expert files that a command names.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "coordinator/crew/crew.h"

namespace svfleet {

// Collective. Error(kExitUser) where ranks read different ones.
std::vector<Expert> open_experts(const std::vector<std::string>& paths, Crew& crew);

}  // namespace svfleet
