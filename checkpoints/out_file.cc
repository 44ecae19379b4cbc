#include "checkpoints/out_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

// Of /proc/self/fd/1, where /dev/stdout leads: its text names a file, but it is an open one that
// others write to as well.
bool is_open_file(const fs::path& link) {
  std::error_code error;
  return fs::canonical(link.parent_path().empty() ? "." : link.parent_path(), error)
      .string()
      .starts_with("/proc/");
}

// Follows the links of a name that may not be there yet.
fs::path behind_links(fs::path path) {
  std::error_code error;
  for (int links = 0; links < 40; ++links) {
    if (!fs::is_symlink(fs::symlink_status(path, error)) || is_open_file(path)) return path;
    const fs::path to = fs::read_symlink(path, error);
    if (error) return path;
    path = to.is_absolute() ? to : path.parent_path() / to;
  }
  throw user_error("cannot write '", path.string(), "': too many links lead to one another");
}

// /dev/stdout and the like of this very process, where it is now in that file; -1: another's.
int same_as_ours(const fs::path& path) {
  std::error_code error;
  if (fs::canonical(path.parent_path(), error) != "/proc/" + std::to_string(getpid()) + "/fd")
    return -1;
  const std::string number = path.filename().string();
  int fd = -1;
  std::from_chars(number.data(), number.data() + number.size(), fd);
  return dup(fd);
}

int open_pipe(const std::string& path) {
  for (int tenths = 0;; ++tenths) {
    const int fd = file_system().open(path, O_WRONLY | O_NONBLOCK, 0666);
    if (fd >= 0) {
      fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
      return fd;
    }
    if (errno != ENXIO) write_failed(path, "open", errno, 0);
    if (tenths == 100)
      throw user_error("nobody reads the pipe '", path, "'; start its reader first");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace

OutFile::OutFile(const std::string& path) : path_(behind_links(path).string()) {
  const InStage looking(Stage::kDisk);
  struct stat info;
  const bool exists = stat(path_.c_str(), &info) == 0;
  if (!exists && errno != ENOENT) write_failed(path_, "stat", errno, 0);
  if (exists && S_ISDIR(info.st_mode))
    throw user_error("cannot write '", path, "': it is a folder; give a file");
  if (is_open_file(path_) && (fd_ = same_as_ours(path_)) >= 0) return;
  if (exists && S_ISFIFO(info.st_mode)) {
    fd_ = open_pipe(path_);
  } else if (exists && (!S_ISREG(info.st_mode) || is_open_file(path_))) {
    fd_ = file_system().open(path_, O_WRONLY | O_APPEND, 0666);
    if (fd_ < 0) write_failed(path_, "open", errno, 0);
  } else {
    if (exists && access(path_.c_str(), W_OK) != 0) write_failed(path_, "open", errno, 0);
    if (exists) mode_ = int(info.st_mode & 07777);
    file_system().unlink(write_temporary(path_, "", Synced::kNo));  // its folder takes files
  }
}

OutFile::~OutFile() {
  if (fd_ >= 0) file_system().close(fd_);
}

void OutFile::write(std::string_view bytes) {
  const InStage writing(Stage::kDisk);
  if (fd_ < 0) {
    const std::string temporary = write_temporary(path_, bytes);
    if (mode_ >= 0 && chmod(temporary.c_str(), mode_t(mode_)) != 0) {
      const int error = errno;
      file_system().unlink(temporary);
      write_failed(path_, "chmod", error, bytes.size());
    }
    rename_temporary(temporary, path_, bytes.size());
    return;
  }
  if (const int error = write_all(fd_, bytes)) write_failed(path_, "write", error, bytes.size());
  const int closed = file_system().close(fd_);
  fd_ = -1;
  if (closed != 0) write_failed(path_, "close", errno, bytes.size());
}

}  // namespace svfleet
