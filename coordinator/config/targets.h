// Which matrices of a model a configuration adapts, and where their factors are.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "coordinator/config/config.h"
#include "svd/core.h"
#include "svd/target.h"
#include "worker/model/architecture.h"

namespace svfleet {

// What this configuration adapts of a model.
std::vector<Target> targets_of(const Config& config, const Architecture& architecture);

// What it trains of them.
CoreOptions core_of(const Config& config);

// The same, adapting what the experts adapt in their core, whatever the settings say of it;
// unchanged where there are none, or one has matrices that no svd.targets could name.
// Error(kExitUser) for experts of different cores, which are not used beside each other.
Config adapting(const std::vector<Expert>& experts, Config config);

// Where the factors of this configuration's model are.
std::string store_folder(const Config& config);

}  // namespace svfleet
