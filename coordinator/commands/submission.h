// What a job asks of Slurm: by submit's own words, by --sbatch, by the caller's environment, which
// has the last word for sbatch, over the script too, and by the site's template.
#pragma once

#include <string>
#include <vector>

#include "cluster/job_script.h"
#include "coordinator/config/command_line.h"

namespace svfleet {

// Reads the files and checks the words; --sbatch options that submit has too, such as gres, become
// submit's. Error(kExitUser).
void adopt_site(const SiteWords& words, JobRequest& ask);

// Fills what was not asked for from SBATCH_PARTITION, SBATCH_TIMELIMIT and the like, then from the
// template's lines, so that it is checked and stands in the script. Error(kExitUser) when a word of
// the request is none that Slurm could take.
void adopt_defaults(JobRequest& ask);

// Error(kExitUser) with bash's own words where it cannot read lines of bash.
void check_bash(const std::string& text, const std::string& name);

// Hands the script to sbatch and returns the job's number. sbatch does not get the variables whose
// option the script writes, nor those that describe a job around this process: its
// SLURM_RESTART_COUNT would be taken for the new job's. `after`: a job whose end it waits for, or
// empty. Error(kExitUser) when it is refused.
std::string hand_in(const std::string& script, const JobRequest& ask, const std::string& after);

}  // namespace svfleet
