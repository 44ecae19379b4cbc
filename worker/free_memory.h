// How much more memory this process may take before the system, or a limit that was set for its
// job, ends it.
#pragma once

#include <cstdint>
#include <string>

namespace svfleet {

// Bytes: what the system calls available or what the control groups (version 2 or 1) of this
// process leave, whichever is less. What they hold only as a cache of files counts as free.
// INT64_MAX where nothing is known. `proc` and `groups` are other folders in tests.
int64_t free_memory(const std::string& proc = "/proc",
                    const std::string& groups = "/sys/fs/cgroup");

}  // namespace svfleet
