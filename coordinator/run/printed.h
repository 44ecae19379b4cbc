// Results on standard output: those that nobody got are none.
#pragma once

namespace svfleet {

// Writes out what was printed so far. Error(kExitDisk) where that fails: a full disk, a pipe whose
// reader is gone.
void check_printed();

}  // namespace svfleet
