// What the caller's environment says to sbatch: there it has the last word, over the script too.
#pragma once

#include <string>
#include <vector>

#include "cluster/job_script.h"

namespace svfleet {

// Fills what was not asked for from SBATCH_PARTITION, SBATCH_TIMELIMIT and the like, so that it is
// checked and stands in the script. Error(kExitUser) when a word of the request is none that Slurm
// could take.
void adopt_environment(JobRequest& ask);

// Hands the script to sbatch and returns the job's number. sbatch does not get the variables whose
// option the script writes, nor those that describe a job around this process: its
// SLURM_RESTART_COUNT would be taken for the new job's. Error(kExitUser) when it is refused.
std::string hand_in(const std::string& script, const JobRequest& ask);

}  // namespace svfleet
