#include "checkpoints/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace svfleet {

int FileSystem::open(const std::string& path, int flags, int mode) {
  return ::open(path.c_str(), flags | O_CLOEXEC, mode);
}
ssize_t FileSystem::read(int fd, void* buffer, size_t bytes) {
  return ::read(fd, buffer, bytes);
}
ssize_t FileSystem::write(int fd, const void* data, size_t bytes) {
  return ::write(fd, data, bytes);
}
int FileSystem::sync(int fd) {
  return ::fsync(fd);
}
int FileSystem::close(int fd) {
  return ::close(fd);
}
int FileSystem::rename(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str());
}
int FileSystem::link(const std::string& from, const std::string& to) {
  return ::link(from.c_str(), to.c_str());
}
int FileSystem::unlink(const std::string& path) {
  return ::unlink(path.c_str());
}
int FileSystem::mkdir(const std::string& path, int mode) {
  return ::mkdir(path.c_str(), mode);
}

namespace {
FileSystem real;
std::atomic<FileSystem*> current{&real};
}  // namespace

FileSystem& file_system() {
  return *current.load();
}
void replace_file_system(FileSystem* replacement) {
  current = replacement ? replacement : &real;
}

}  // namespace svfleet
