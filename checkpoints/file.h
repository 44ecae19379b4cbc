// The one checked way to a disk: whole files in, whole files out, nothing half-written under a
// final name. Every error is an Error(kExitDisk) or, for what a user can mend, Error(kExitUser);
// what was writable to this process before and is no more (WriteGuard) is a disk that fails.
// of_node() where it may be the fault of this machine alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// Writes `bytes` to `path`.tmp-<host>-<pid>-<start>-<n>, fsyncs, renames to `path`, fsyncs the
// folder. After a crash at any moment `path` holds either its old content or all of the new.
// Thread-safe.
void write_file_atomic(const std::string& path, std::string_view bytes);

// Makes `path` with O_EXCL and syncs it; when it is already there, sets `existed` and changes
// nothing. Only for files whose reader copes with a torn one (the owner file).
void write_new_file(const std::string& path, std::string_view bytes, bool* existed);
// Synced rename; false when `from` is not there.
bool rename_file(const std::string& from, const std::string& to);

// The whole file. Throws Error(kExitUser) when it does not exist, kExitDisk when reading fails.
std::string read_file(const std::string& path);

// Error when the disk does not tell.
bool file_exists(const std::string& path);  // a folder counts
bool is_folder(const std::string& path);
// Absolute, without links and without a slash at its end, as far as it exists.
std::string resolved_path(const std::string& path);
void make_folder(const std::string& path);  // with parents, synced
// No error when it is not there. Under a WriteGuard a file is first moved to a temporary name, so
// that one of a new owner, which the guard then finds, can be put back.
void remove_file(const std::string& path);
void remove_files(const std::vector<std::string>& paths);  // of one folder; the guard looks once
// Removes `path` when `ours` says of it that it may go. It looks at `moved`, a name that nobody
// else uses and to which the file is renamed first; a file that stays is put back, unless its name
// has been given again. Asks no guard. False when nothing was removed.
bool remove_after_look(const std::string& path, const std::string& moved,
                       const std::function<bool(const std::string& moved)>& ours);
std::vector<std::string> list_folder(const std::string& path);  // names, sorted; empty if missing
// Appends one line (a newline is added) with a single write; used for logs, to which other
// processes may append as well. A torn last line, of an earlier crash or a full disk, stays and is
// ended first: readers pass over what they cannot read. Not synced: a crash of the machine may lose
// the last lines.
void append_line(const std::string& path, std::string_view line);
// Each whole line of a file that may be growing, without its newline; a last line that has none is
// torn and left out. Holds no more than a block and a line in memory. No lines when it is not
// there.
void read_lines(const std::string& path, const std::function<void(std::string_view line)>& read);
uint64_t free_bytes(const std::string& folder);
// Deletes leftover *.tmp-* files of dead writers in a folder: those made on this host by a process
// that is gone, and those of other hosts after a day.
void remove_stale_temporaries(const std::string& folder);
// Deletes all temporary files of a run folder (run_names.h), and no one else's. A writer that has
// not renamed its own yet then cannot: for the new owner. Those of stop.json and restarts.json,
// which others than the owner write too, go when they are stale as above.
void remove_run_temporaries(const std::string& run_dir);

// While it lives, each change that this process makes below `folder` by the functions above (a file
// renamed into place, a line appended, a file removed, a folder made) is preceded by a call of
// `check`, which throws when the change must not happen. A file is whole and synced under its
// temporary name when it is checked, a log is open: what comes after the check is one system call
// on something that a new owner takes away (Owner::shut_out_others). One at a time in a
// process; any thread may write.
//
// Records that are added to a file which nobody else writes, and which are right whoever reads them
// (journal.h), may rest on a check that is `append_patience_s` old.
class WriteGuard {
 public:
  WriteGuard(std::string folder, std::function<void()> check, double append_patience_s = 0);
  ~WriteGuard();
  WriteGuard(const WriteGuard&) = delete;
};

}  // namespace svfleet
