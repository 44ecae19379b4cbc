// The steps of a whole write, for what puts them together in other ways than file.cc (publish.h,
// lines.cc).
#pragma once

#include <string>
#include <string_view>

#include "checkpoints/file_system.h"

namespace svfleet {

class File {
 public:
  File(const std::string& path, int flags) : fd_(file_system().open(path, flags, 0666)) {}
  ~File() { close(); }
  File(const File&) = delete;
  int fd() const { return fd_; }
  // Network disks report some failed writes only here.
  int close() {
    if (fd_ < 0) return 0;
    const int result = file_system().close(fd_);
    fd_ = -1;
    return result;
  }

 private:
  int fd_;
};

// 0, or the errno of the call that failed.
int write_all(int fd, std::string_view bytes);

inline constexpr char kTemporary[] = ".tmp-";
std::string temporary_name(const std::string& path);  // another one in each call

// kNo: a crash of the machine may lose or tear it.
enum class Synced { kNo, kYes };

// Writes `bytes` under a temporary name, which is returned; the guard of `path` has been asked
// (WriteGuard). Nothing is left behind by an Error.
std::string write_temporary(const std::string& path, std::string_view bytes,
                            Synced synced = Synced::kYes);
// Puts it in place and syncs the folder. `bytes` is told when the disk is full.
void rename_temporary(const std::string& temporary, const std::string& path, size_t bytes,
                      Synced synced = Synced::kYes);
// A rename or a new name is safe only once its folder is synced.
void sync_parent(const std::string& path, size_t bytes);

}  // namespace svfleet
