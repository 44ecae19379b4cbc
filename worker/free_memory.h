// How much more memory this process may take before the system, or a limit that was set for its
// job, ends it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

// Bytes: what the system calls available or what the control groups (version 2 or 1) of this
// process leave, whichever is less. What they hold only as a cache of files counts as free.
// INT64_MAX where nothing is known. `proc` and `groups` are other folders in tests.
int64_t free_memory(const std::string& proc = "/proc",
                    const std::string& groups = "/sys/fs/cgroup");

// What one control group allows and holds, in bytes. `cache`: of files, which would be given up.
struct ControlGroup {
  int64_t limit = 0, used = 0, cache = 0;
};
// Those with a limit, from that of this process up to the root: a limit holds for all below it.
std::vector<ControlGroup> control_groups(const std::string& proc = "/proc",
                                         const std::string& groups = "/sys/fs/cgroup");

// The number after `key` at the start of a line of a file of /proc or of a control group.
std::optional<int64_t> entry_of(const std::string& file, const std::string& key);

}  // namespace svfleet
