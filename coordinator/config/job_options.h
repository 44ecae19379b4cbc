// What a user may ask of `svfleet submit`, and a job script of `svfleet after-run`.
#pragma once

#include "coordinator/config/command_line.h"

namespace CLI {
class App;
}

namespace svfleet {

// Their options and examples. `line` outlives the parsing.
void add_submit_options(CLI::App* command, CommandLine* line);
void add_after_run_options(CLI::App* command, CommandLine* line);

}  // namespace svfleet
