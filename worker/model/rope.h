// Rotary positions: what config.json says of them, in the words of transformers 4 (rope_scaling)
// and 5 (rope_parameters), and the frequencies that this makes: docs/models.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/model/architecture.h"
#include "worker/model/family.h"

namespace svfleet {

// Sets rope, rope_theta, local_rope_theta, rotary_dim and longest; max_positions is there already.
// `max_length`: read_architecture's. Error(kExitUser) for what is not supported, for a field of a
// scaling that is missing, and for two places that differ.
void read_rope(const nlohmann::json& config, const std::string& path, const Family& family,
               int64_t max_length, Architecture* arch);

// [rotary_dim / 2], of the long context that the scaling's kind makes:
//   linear    all divided by `factor`;
//   dynamic   of the base theta (factor L / M - factor + 1) ^ (d / (d - 2)), L tokens, M positions;
//   YaRN      divided by `factor` below beta_slow turns over the original context, kept above
//             beta_fast, and interpolated between (arXiv 2309.00071);
//   llama3    likewise by low_freq_factor and high_freq_factor turns;
//   LongRoPE  each divided by its own number (arXiv 2402.13753).
std::vector<double> rope_frequencies(const Architecture& arch);
// Those of layers with local_angles, of local_rope_theta and unscaled.
std::vector<double> local_rope_frequencies(const Architecture& arch);

}  // namespace svfleet
