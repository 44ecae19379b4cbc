// The system calls behind file.h, as virtual functions: the seam at which tests inject full disks,
// I/O errors, short writes, and crashes that lose what was not synced. Results as in POSIX: -1 and
// errno.
#pragma once

#include <sys/types.h>

#include <string>

namespace svfleet {

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int open(const std::string& path, int flags, int mode);
  virtual ssize_t read(int fd, void* buffer, size_t bytes);
  virtual ssize_t write(int fd, const void* data, size_t bytes);
  virtual int sync(int fd);
  virtual int close(int fd);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int link(const std::string& from, const std::string& to);
  virtual int unlink(const std::string& path);
  virtual int mkdir(const std::string& path, int mode);
};

FileSystem& file_system();
// Process-wide; nullptr = the real one. The caller keeps ownership. For tests.
void replace_file_system(FileSystem* replacement);

}  // namespace svfleet
