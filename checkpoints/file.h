// The one checked way to a disk: whole files in, whole files out, nothing half-written under a
// final name. Every error is an Error(kExitDisk) or, for what a user can mend, Error(kExitUser).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// Writes `bytes` to `path`.tmp-<pid>-<n>, fsyncs, renames to `path`, fsyncs the folder. After a
// crash at any moment `path` holds either its old content or all of the new. Thread-safe.
void write_file_atomic(const std::string& path, std::string_view bytes);

// The whole file. Throws Error(kExitUser) when it does not exist, kExitDisk when reading fails.
std::string read_file(const std::string& path);

bool file_exists(const std::string& path);
void make_folder(const std::string& path);                      // with parents
void remove_file(const std::string& path);                      // no error when it is not there
std::vector<std::string> list_folder(const std::string& path);  // names, sorted; empty if missing
// Appends one line (a newline is added) with a single write; used for logs. A torn last line of an
// earlier crash is cut off first.
void append_line(const std::string& path, std::string_view line);
uint64_t free_bytes(const std::string& folder);
// Deletes leftover *.tmp-* files of dead writers in a folder.
void remove_stale_temporaries(const std::string& folder);

}  // namespace svfleet
