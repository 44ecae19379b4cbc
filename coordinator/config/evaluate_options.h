// What a user may ask of `svfleet evaluate`.
#pragma once

#include <string>

#include "coordinator/config/command_line.h"

namespace CLI {
class App;
}

namespace svfleet {

// Its own options and examples. `line` outlives the parsing.
void add_evaluate_options(CLI::App* command, CommandLine* line);
// Error(kExitUser) where they do not go together; `see`: the help to read.
void check_evaluate(const CommandLine& line, const std::string& see);

}  // namespace svfleet
