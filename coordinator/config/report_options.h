// What a user may ask of `svfleet report`.
#pragma once

#include "coordinator/config/command_line.h"

namespace CLI {
class App;
}

namespace svfleet {

// Its options and examples. `line` outlives the parsing.
void add_report_options(CLI::App* command, CommandLine* line);

// Where the page of --out FILE and the table beside it go: FILE.html and FILE.md, FILE without
// either ending.
struct ReportFiles {
  std::string html, markdown;
};
ReportFiles report_files(const std::string& out);

}  // namespace svfleet
