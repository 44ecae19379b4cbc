// The files of `evaluate --out`: a line for each item, whole, so that all lines together are what
// was measured.
#pragma once

#include <string>
#include <vector>

#include "coordinator/training/measurement.h"

namespace svfleet {

// An object a line for each item, with the replies of each policy; docs/formats.md.
std::string item_lines(const Measurement& measured);

// What such files have measured together: the same items and the same base, and the experts of
// all. Error(kExitUser) with file and line for what is no such file, and for files that do not go
// together.
Measurement read_measurement(const std::vector<std::string>& files);

}  // namespace svfleet
