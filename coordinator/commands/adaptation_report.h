// What the two passes found and cost: the key `adaptation` of --json, and its text for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/adaptation/first_pass.h"
#include "coordinator/commands/measuring.h"

namespace svfleet {

// `tasks`: whose prompts the first pass was about, in their order; `second`: what was
// measured then, the adapted policy last. docs/formats.md.
nlohmann::json adaptation_json(const Config& config, const AdaptRequest& request,
                               const OpenedSet& opened, const FirstPass& pass,
                               const std::vector<Task>& tasks, const Measuring& second);
std::string adaptation_text(const nlohmann::json& adaptation);

}  // namespace svfleet
