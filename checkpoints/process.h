// Which process is this, and does that one still run?
#pragma once

#include <cstdint>
#include <string>

namespace svfleet {

std::string host_name();
// When a process of this machine started (clock ticks since boot), which tells it from a later one
// with the same pid. 0: no such process, or only its zombie. -1: it runs, but the system hides
// when it started.
int64_t process_start(int64_t pid);
// Whether the process `pid` that started at `start` still runs on this machine; when that cannot
// be known, yes.
bool process_runs(int64_t pid, int64_t start);

}  // namespace svfleet
