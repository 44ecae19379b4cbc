// Rotary positions: what config.json says of them, in the words of transformers 4 (rope_scaling)
// and 5 (rope_parameters), and the frequencies that this makes: docs/models.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/model/architecture.h"

namespace svfleet {

// Sets rope and rope_theta; max_positions is there already. Error(kExitUser) for what is not
// supported, for a field of llama3 scaling that is missing, and for two places that differ.
void read_rope(const nlohmann::json& config, const std::string& path, Architecture* arch);

// [head_dim / 2], with Llama 3.1's stretching of the long wavelengths: below low_freq_factor turns
// over the original context they are divided by `factor`, above high_freq_factor kept, and
// interpolated between.
std::vector<double> rope_frequencies(const Architecture& arch);

}  // namespace svfleet
