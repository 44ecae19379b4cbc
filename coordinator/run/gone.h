// What a run has written and must still have, as its other files tell: nobody who reads what is
// there sees that something is not.
#pragma once

#include <string>
#include <vector>

namespace svfleet {

// One line for each file that is gone, the newest checkpoint among them. The run may be alive.
// Files that a run need not have (experts, chunks, what was set aside) are none of it.
std::vector<std::string> gone_files(const std::string& run_dir);

}  // namespace svfleet
