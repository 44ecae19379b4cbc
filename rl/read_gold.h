// The right answer of an item, and its choices.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "rl/task.h"

namespace svfleet {

// Error(kExitUser) with `where` in front when the item's fields are not what the rewards need.
Gold read_gold(const TaskSpec& spec, const nlohmann::json& item, const std::string& where);

// `text`, or Error(kExitUser) for control characters in it: "`where`: `what` holds ...".
const std::string& readable(const std::string& text, const std::string& where,
                            const std::string& what);

}  // namespace svfleet
