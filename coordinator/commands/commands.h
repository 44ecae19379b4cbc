// The program's commands. Each is collective over all ranks of the job and returns an exit code;
// results go to stdout on rank 0, progress to stderr.
#pragma once

#include "coordinator/config/command_line.h"
#include "coordinator/config/config.h"

namespace svfleet {

int decompose_command(const CommandLine& line, const Config& config);
int train_command(const CommandLine& line, const Config& config);
int evaluate_command(const CommandLine& line, const Config& config);
int generate_command(const CommandLine& line, const Config& config);
int adapt_command(const CommandLine& line, const Config& config);
int export_command(const CommandLine& line, const Config& config);
int rebase_command(const CommandLine& line, const Config& config);
int transfer_command(const CommandLine& line, const Config& config);
int verify_command(const CommandLine& line, const Config& config);

// For one process.
int evaluate_from_command(const CommandLine& line);
int submit_command(const CommandLine& line, const Config& config);
int after_run_command(const CommandLine& line);
int status_command(const CommandLine& line);
int report_command(const CommandLine& line);
int stop_command(const CommandLine& line);

}  // namespace svfleet
