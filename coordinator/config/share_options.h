// What a user may ask of `svfleet export`, `rebase` and `transfer`.
#pragma once

#include "coordinator/config/command_line.h"

namespace CLI {
class App;
}

namespace svfleet {

// Their options and examples. `line` outlives the parsing.
void add_export_options(CLI::App* command, CommandLine* line);
void add_rebase_options(CLI::App* command, CommandLine* line);
void add_transfer_options(CLI::App* command, CommandLine* line);

}  // namespace svfleet
