#include "checkpoints/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>

#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/file_system.h"
#include "checkpoints/process.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

// The work of a stage: small files take as long as each other.
double pieces(size_t bytes) {
  return double(bytes) / double(size_t{16} << 20);
}

std::string parent(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = file_system().write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

namespace {

void sync_folder(const std::string& folder, size_t bytes) {
  File file(folder, O_RDONLY | O_DIRECTORY);
  if (file.fd() < 0) write_failed(folder, "open", errno, bytes);
  // Some network disks cannot sync folders, and need not.
  if (file_system().sync(file.fd()) != 0 && errno != EINVAL && errno != ENOTSUP)
    write_failed(folder, "fsync", errno, bytes);
}

}  // namespace

void sync_parent(const std::string& path, size_t bytes) {
  sync_folder(parent(path), bytes);
}

std::string temporary_name(const std::string& path) {
  return path + kTemporary + process_mark();
}

std::string write_temporary(const std::string& path, std::string_view bytes, Synced synced) {
  const InStage writing(Stage::kDisk, pieces(bytes.size()));
  const std::string temporary = temporary_name(path);
  auto fail = [&](const char* call, int error) {
    file_system().unlink(temporary);
    write_failed(path, call, error, bytes.size());
  };
  File file(temporary, O_WRONLY | O_CREAT | O_EXCL);
  if (file.fd() < 0) write_failed(path, "open", errno, bytes.size());
  if (int error = write_all(file.fd(), bytes)) fail("write", error);
  if (synced == Synced::kYes && file_system().sync(file.fd()) != 0) fail("fsync", errno);
  if (file.close() != 0) fail("close", errno);
  try {
    check_guard(path);
  } catch (...) {
    file_system().unlink(temporary);
    throw;
  }
  return temporary;
}

void rename_temporary(const std::string& temporary, const std::string& path, size_t bytes,
                      Synced synced) {
  const InStage renaming(Stage::kDisk);
  if (file_system().rename(temporary, path) != 0) {
    const int error = errno;
    if (error == ENOENT) check_guard(path);  // a new owner has removed the temporary file
    file_system().unlink(temporary);
    write_failed(path, "rename", error, bytes);
  }
  if (synced == Synced::kYes) sync_parent(path, bytes);
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  rename_temporary(write_temporary(path, bytes), path, bytes.size());
}

void write_new_file(const std::string& path, std::string_view bytes, bool* existed) {
  const InStage writing(Stage::kDisk, pieces(bytes.size()));
  *existed = false;
  {
    File file(path, O_WRONLY | O_CREAT | O_EXCL);
    if (file.fd() < 0 && errno == EEXIST) {
      *existed = true;
      return;
    }
    if (file.fd() < 0) write_failed(path, "open", errno, bytes.size());
    struct stat made;
    int error = fstat(file.fd(), &made) != 0 ? errno : write_all(file.fd(), bytes);
    if (error == 0 && file_system().sync(file.fd()) != 0) error = errno;
    if (file.close() != 0 && error == 0) error = errno;
    if (error != 0) {
      // A torn file may have been replaced by somebody else's.
      remove_after_look(path, temporary_name(path), [&](const std::string& moved) {
        struct stat info;
        return stat(moved.c_str(), &info) == 0 && info.st_ino == made.st_ino &&
               info.st_dev == made.st_dev;
      });
      write_failed(path, "write", error, bytes.size());
    }
  }
  sync_folder(parent(path), bytes.size());
}

bool rename_file(const std::string& from, const std::string& to) {
  const InStage renaming(Stage::kDisk);
  check_guard(to);
  if (file_system().rename(from, to) != 0) {
    if (errno == ENOENT) return false;
    write_failed(to, "rename", errno, 0);
  }
  sync_folder(parent(to), 0);
  return true;
}

std::string read_file(const std::string& path) {
  const InStage reading(Stage::kDisk);
  File file(path, O_RDONLY);
  if (file.fd() < 0) read_failed(path, errno);
  struct stat info;
  if (fstat(file.fd(), &info) != 0) read_failed(path, errno);
  if (S_ISDIR(info.st_mode)) read_failed(path, EISDIR);
  // One byte more than expected, to see the end without a copy to a larger string.
  std::string bytes(static_cast<size_t>(info.st_size) + 1, '\0');
  size_t done = 0;
  while (true) {
    enter(Stage::kDisk, pieces(bytes.size() - done));
    // Files that grew or have no size (/proc).
    if (done == bytes.size()) bytes.resize(done + 1 + done / 8);
    const ssize_t got = file_system().read(file.fd(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) read_failed(path, errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

bool file_exists(const std::string& path) {
  const InStage looking(Stage::kDisk);
  struct stat info;
  if (stat(path.c_str(), &info) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) read_failed(path, errno);
  return false;
}

bool is_folder(const std::string& path) {
  const InStage looking(Stage::kDisk);
  struct stat info;
  if (stat(path.c_str(), &info) == 0) return S_ISDIR(info.st_mode);
  if (errno != ENOENT && errno != ENOTDIR) read_failed(path, errno);
  return false;
}

std::string resolved_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path);
  const std::filesystem::path found = std::filesystem::weakly_canonical(whole, error);
  std::string text = (error ? whole : found).string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

void make_folder(const std::string& path) {
  const InStage making(Stage::kDisk);
  if (path.empty() || is_folder(path)) return;
  check_guard(path);  // first: a folder that is lost from sight with all above it is not made anew
  make_folder(path == parent(path) ? "" : parent(path));
  if (file_system().mkdir(path, 0777) == 0) {
    sync_folder(parent(path), 0);
    return;
  }
  const int error = errno;
  if (error == EEXIST && is_folder(path)) return;  // another rank made it
  if (error == EEXIST || error == ENOTDIR)
    throw user_error("cannot make the folder '", path, "': a file has that name");
  write_failed(path, "mkdir", error, 4096);
}

std::vector<std::string> list_folder(const std::string& path) {
  const InStage listing(Stage::kDisk);
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  if (!folder) {
    if (errno == ENOENT) return {};
    if (errno == ENOTDIR) throw user_error("cannot list '", path, "': it is not a folder");
    read_failed(path, errno);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  if (errno != 0) read_failed(path, errno);
  std::sort(names.begin(), names.end());
  return names;
}

uint64_t free_bytes(const std::string& folder) {
  struct statvfs info;
  if (statvfs(folder.c_str(), &info) != 0) read_failed(folder, errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace svfleet
