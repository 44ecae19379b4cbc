// Where evaluate may write its replies.
#pragma once

#include "coordinator/config/command_line.h"
#include "coordinator/config/config.h"

namespace svfleet {

// Error(kExitUser) where --out would take the place of what is measured from, of a part of a run,
// or of anything else but older results.
void check_out(const CommandLine& line, const Config& config);

}  // namespace svfleet
