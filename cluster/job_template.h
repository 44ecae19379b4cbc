// The template of the batch script: cluster/job.sh, or one that a site puts in its place.
//
// @NAME@ stands for a word of the job, which is filled in quoted as a shell wants it. A line
// `# @NAME@`, a comment that is nothing else, stands for lines.
#pragma once

#include <map>
#include <string>

#include "cluster/job_script.h"

namespace svfleet {

const std::string& default_template();

struct Place {
  std::string value;
  bool needed = true;  // the job would be another without it
  bool lines = false;  // `# @NAME@`
};

// `text` with all its places filled. `name` is what errors call it. Error(kExitUser), which names
// the line: a place that is missing, unknown, in quotes or in a comment; what sbatch would pass
// over, such as #SBATCH lines after the first command. Pure.
std::string fill_template(const std::string& text, const std::string& name,
                          const std::map<std::string, Place>& places);

// The options in the template's own #SBATCH lines: those that submit has too are filled in where
// nobody asked for them. Error(kExitUser) as for sbatch_option(), and for a line below # @SBATCH@,
// where it would override what was asked for.
void adopt_template_options(const std::string& text, const std::string& name, JobRequest& ask);

// Error(kExitUser): lines of bash that may stand below the first command, so that #SBATCH lines
// among them would be passed over.
void check_prelude(const std::string& text, const std::string& name);

}  // namespace svfleet
