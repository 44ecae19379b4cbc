// How many cores' worth of time this process may use.
#pragma once

#include <string>

namespace svfleet {

// The cores that the control groups (version 2 or 1) of this process leave it: a container that may
// use half the time of four cores has 2, and no less than 1. INT_MAX where nothing limits it.
// `proc` and `groups` are other folders in tests.
int cpu_quota(const std::string& proc = "/proc", const std::string& groups = "/sys/fs/cgroup");

}  // namespace svfleet
