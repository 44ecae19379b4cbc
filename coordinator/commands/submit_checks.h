// What can be known of a job before it is in the queue. All throw Error(kExitUser).
#pragma once

#include <string>

#include "cluster/job_script.h"
#include "coordinator/config/command_line.h"
#include "coordinator/config/config.h"

namespace svfleet {

// Model, task files and the expert to start from (`start`, may be empty) are there.
void check_files(const Config& config, const std::string& start);

// No character that Slurm changes in paths.
void check_characters(const std::string& what, const std::string& path);

// Other nodes see it, as far as names and `mounts` (/proc/self/mounts) tell; or --allow-local.
void check_shared(const JobRequest& ask, const std::string& what, const std::string& path,
                  const std::string& mounts);
// All that the job's processes open, wherever Slurm starts them.
void check_all_shared(const JobScript& job, const Config& config, const std::string& start,
                      const std::string& mounts);

// Nobody else may have the run: what is written there would be under its feet.
void check_free(const std::string& run_dir);

// What train finds before it loads the model, hours in the queue later: a folder of somebody's, bad
// items, layers that the model lacks, settings that the run was not started with. Returns the last
// line of a run that is finished; empty: there is something to do.
std::string check_run(const Config& config);

// The expert that a run starts from, or ""; a child starts from its parent.
std::string start_expert(const CommandLine& line, const Config& config);

}  // namespace svfleet
