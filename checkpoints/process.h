// Which process is this, and does that one still run?
#pragma once

#include <cstdint>
#include <optional>
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

// host-pid-start-n as part of a file's name: this process, and another n for each call.
// Thread-safe.
std::string process_mark();
// Whether the process that made a mark is certainly gone; nothing for a mark of another host.
// `is_mark` (may be null) tells whether the text is one.
std::optional<bool> mark_is_dead(const std::string& mark, bool* is_mark = nullptr);

}  // namespace svfleet
