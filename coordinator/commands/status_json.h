// How a run stands, for programs; and what is worked out for people, too.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/run/status.h"

namespace svfleet {

nlohmann::json to_json(const Status& now);

// Until the last step, at today's pace; below 0 where nobody knows.
double seconds_left(const Status& now);
// Of attempt `i`.
std::string how_it_ended(const Status& now, size_t i);

}  // namespace svfleet
