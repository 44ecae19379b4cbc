// The job of a run: where everything is, as the nodes see it, and what its ranks are started with.
#pragma once

#include "cluster/job_script.h"
#include "coordinator/config/command_line.h"
#include "coordinator/config/config.h"
#include "coordinator/crew/run_program.h"

namespace svfleet {

// Error(kExitUser) where a node would not see a file, or the cluster has not what is asked of it;
// with --dry-run there may be no cluster.
JobScript plan_job(const CommandLine& line, const Config& config, const RunProgram& program);

}  // namespace svfleet
