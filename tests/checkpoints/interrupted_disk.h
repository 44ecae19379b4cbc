// The real disk, which calls `interrupt` before its system call number `at`.
#pragma once

#include <functional>
#include <string>

#include "checkpoints/file_system.h"

namespace svfleet {

class InterruptedDisk : public FileSystem {
 public:
  InterruptedDisk() { replace_file_system(this); }
  ~InterruptedDisk() override { replace_file_system(nullptr); }
  int64_t calls = 0, at = -1;
  std::function<void()> interrupt;

  int open(const std::string& path, int flags, int mode) override {
    count();
    return FileSystem::open(path, flags, mode);
  }
  ssize_t read(int fd, void* buffer, size_t bytes) override {
    count();
    return FileSystem::read(fd, buffer, bytes);
  }
  ssize_t write(int fd, const void* data, size_t bytes) override {
    count();
    return FileSystem::write(fd, data, bytes);
  }
  int sync(int fd) override {
    count();
    return FileSystem::sync(fd);
  }
  int close(int fd) override {
    count();
    return FileSystem::close(fd);
  }
  int rename(const std::string& from, const std::string& to) override {
    count();
    return FileSystem::rename(from, to);
  }
  int link(const std::string& from, const std::string& to) override {
    count();
    return FileSystem::link(from, to);
  }
  int unlink(const std::string& path) override {
    count();
    return FileSystem::unlink(path);
  }
  int mkdir(const std::string& path, int mode) override {
    count();
    return FileSystem::mkdir(path, mode);
  }

 protected:
  virtual void count() {
    if (calls++ != at) return;
    replace_file_system(nullptr);  // what happens now is another process's
    interrupt();
    replace_file_system(this);
  }
};

}  // namespace svfleet
