// The tables of `svfleet status`: steps, tasks, starts, and where the time went.
#pragma once

#include <nlohmann/json.hpp>

#include "coordinator/run/status.h"

namespace svfleet {

// A number of a record; NaN where it has none.
double number(const nlohmann::json& record, const char* key);

// To standard output, each.
void print_steps(const Status& now);
void print_tasks(const Status& now);  // where there are several
void print_attempts(const Status& now);
void print_time(const Status& now);

}  // namespace svfleet
