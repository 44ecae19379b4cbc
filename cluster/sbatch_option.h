// One more option of sbatch, as a user (`submit --sbatch`) or a site's template writes it.
#pragma once

#include <string>

#include "cluster/job_script.h"

namespace svfleet {

// Of `--name=value`, `--name value`, `name=value`, `-x value`, `-xvalue`. Error(kExitUser), with
// `where` in front, for what would break a run that starts again (an array, another signal, another
// output ...) and for what submit has words of its own for, in each spelling that sbatch takes,
// abbreviations included; for a value that is missing; and for what would not reach sbatch as it is
// written.
SbatchOption sbatch_option(const std::string& text, const std::string& where);

// The line of the script, without an end.
std::string sbatch_line(const SbatchOption& option);

// Where submit has an option of that name which the partitions are checked against (gres, time,
// ...): fills it when nobody asked for it, and returns true. `contradicts`: it was asked for
// otherwise.
bool adopt(const SbatchOption& option, JobRequest& ask, bool* contradicts);

}  // namespace svfleet
