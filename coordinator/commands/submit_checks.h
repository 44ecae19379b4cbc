// What can be known of a job before the queue, without asking Slurm. All throw Error(kExitUser).
#pragma once

#include <string>

#include "cluster/job_script.h"
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

}  // namespace svfleet
