// What `svfleet config` says of a configuration beyond its settings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/config/config.h"
#include "svd/target.h"

namespace svfleet {

// As comment lines of YAML: what was read otherwise than it is written, and, where the model's
// config.json can be read, which of the two forms costs less, or, of several experts, what the one
// that they have costs. Only the setting decides.
std::string remarks_on(const Config& config);

// Multiplications and additions.
struct FormCosts {
  double merge = 0;         // W' of all targets, once a step
  double activation = 0;    // the activation form's products with Q, for each token
  int64_t most_tokens = 0;  // that a step samples and then differentiates, for all experts
  // Of these, from how many on merging costs less.
  double break_even() const { return activation > 0 ? merge / activation : 0; }
};
FormCosts form_costs(const Config& config, const std::vector<Target>& targets);

}  // namespace svfleet
