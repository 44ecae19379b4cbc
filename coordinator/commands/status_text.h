// How a run stands, for people.
#pragma once

#include "coordinator/run/status.h"

namespace svfleet {

// To standard output.
void print_status(const Status& now);

}  // namespace svfleet
