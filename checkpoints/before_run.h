// What may lie in a folder in which a run is to begin: a file there that bears one of svfleet's own
// names would be appended to or replaced, whoever made it.
#pragma once

#include <string>

namespace svfleet {

// The first entries of `run_dir`, at most three and then how many more, that are in the way of a
// new run; empty when none is. Names of folders end with /. Not in the way are the file `but`, what
// `svfleet submit` and its job have written before the ranks began, what a start that was killed
// before it wrote run.json has left, and what scripts of ours keep beside a run.
std::string foreign_names(const std::string& run_dir, const std::string& but);

}  // namespace svfleet
