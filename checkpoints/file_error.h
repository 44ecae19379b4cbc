// Inside of file.cc: what a failed system call on a file means, in one line, and whether a change
// may happen.
#pragma once

#include <cstddef>
#include <string>

namespace svfleet {

// `error` is the errno of `call`. Before this process has a run folder (WriteGuard), a path that
// cannot be written at all is for a person to mend: kExitUser. Below a folder that it has, the same
// is a disk that fails under this node: kExitDisk, of_node().
[[noreturn]] void write_failed(const std::string& path, const char* call, int error, size_t bytes);
[[noreturn]] void read_failed(const std::string& path, int error);

// Before a change of `path`: throws when a WriteGuard is for it and says that it must not happen.
// False when there is none for it.
bool check_guard(const std::string& path);
// The same before bytes are added to a file of this process's own, for which a look that is not
// older than the guard allows will do.
void check_guard_of_append(const std::string& path);

}  // namespace svfleet
