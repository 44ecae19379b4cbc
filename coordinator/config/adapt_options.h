// What a user may ask of `svfleet adapt`, and of `evaluate` and `generate` that adapt.
#pragma once

#include <string>

#include "coordinator/config/command_line.h"

namespace CLI {
class App;
}

namespace svfleet {

// `line` outlives the parsing.
void add_adapt_options(CLI::App* command, CommandLine* line);
// `strategy`: the name of its option there.
void add_set_options(CLI::App* command, CommandLine* line, const char* strategy);
// Error(kExitUser) where they do not go together; `see`: the help to read.
void check_adapt(const CommandLine& line, const std::string& see);

}  // namespace svfleet
