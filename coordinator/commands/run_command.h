// Which command runs, and what it says when it is stopped.
#pragma once

#include "coordinator/config/command_line.h"

namespace svfleet {

// From the last word of a command to the end of the process: standard error or a file may hang.
constexpr double kEndLimit_s = 30;

// Returns the exit code.
int run_command(const CommandLine& line);

}  // namespace svfleet
