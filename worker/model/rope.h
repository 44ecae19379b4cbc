// What config.json says of rotary positions, in the words of transformers 4 (rope_scaling) and 5
// (rope_parameters): docs/models.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "worker/model/architecture.h"

namespace svfleet {

// Sets rope and rope_theta; max_positions is there already. Error(kExitUser) for what is not
// supported, for a field of llama3 scaling that is missing, and for two places that differ.
void read_rope(const nlohmann::json& config, const std::string& path, Architecture* arch);

}  // namespace svfleet
