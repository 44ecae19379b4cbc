// A disk that fails on command: the real one, watched, with a model of what was synced, so that a
// test can crash it between any two system calls and see every state that POSIX then allows.
// (The idea is that of leveldb's fault injection environment.)
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "checkpoints/file_system.h"

namespace svfleet {

class CrashDisk : public FileSystem {
 public:
  // Watches `root`, an empty folder, and stands in for the file system until destroyed.
  explicit CrashDisk(const std::string& root) : root_(root) { replace_file_system(this); }
  ~CrashDisk() override { replace_file_system(nullptr); }

  int64_t calls = 0;      // system calls so far
  int64_t crash_at = -1;  // from this call on nothing works and nothing changes
  int64_t fail_at = -1;   // this one call fails with `failure`
  int failure = EIO;      //
  int write_failure = 0;  // every write fails with this
  size_t largest_write = SIZE_MAX;
  bool no_hard_links = false;
  bool syncs_lie = false;  // for control tests: what a writer without fsync would leave

  bool crashed() const { return crash_at >= 0 && calls > crash_at; }

  int open(const std::string& path, int flags, int mode) override {
    if (fails()) return -1;
    const int fd = FileSystem::open(path, flags, mode);
    if (fd < 0) return fd;
    if (flags & O_DIRECTORY) {
      folders_[fd] = path;
    } else {
      if (!names_.contains(path)) names_[path] = std::make_shared<Inode>();
      files_[fd] = names_[path];
    }
    return fd;
  }
  ssize_t read(int fd, void* buffer, size_t bytes) override {
    if (fails()) return -1;
    return FileSystem::read(fd, buffer, bytes);
  }
  ssize_t write(int fd, const void* data, size_t bytes) override {
    if (fails()) return -1;
    if (write_failure) return errno = write_failure, -1;
    const ssize_t n = FileSystem::write(fd, data, std::min(bytes, largest_write));
    if (n > 0) files_.at(fd)->now.append(static_cast<const char*>(data), static_cast<size_t>(n));
    return n;
  }
  int sync(int fd) override {
    if (fails()) return -1;
    if (syncs_lie) return 0;
    if (files_.contains(fd)) {
      files_[fd]->synced = files_[fd]->now;
      return 0;
    }
    const std::string folder = folders_.at(fd);
    auto inside = [&](const auto& item) { return parent(item.first) == folder; };
    std::erase_if(synced_names_, inside);
    for (const auto& item : names_)
      if (inside(item)) synced_names_.insert(item);
    for (const std::string& made : made_)
      if (parent(made) == folder) synced_made_.insert(made);
    return 0;
  }
  int close(int fd) override {
    files_.erase(fd);
    folders_.erase(fd);
    FileSystem::close(fd);  // also after the crash: the test process must not run out of them
    return fails() ? -1 : 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    if (fails()) return -1;
    if (FileSystem::rename(from, to) != 0) return -1;
    names_[to] = names_.at(from);
    names_.erase(from);
    return 0;
  }
  int link(const std::string& from, const std::string& to) override {
    if (fails()) return -1;
    if (no_hard_links) return errno = EPERM, -1;
    if (FileSystem::link(from, to) != 0) return -1;
    names_[to] = names_.at(from);
    return 0;
  }
  int unlink(const std::string& path) override {
    if (fails()) return -1;
    names_.erase(path);
    return FileSystem::unlink(path);
  }
  int mkdir(const std::string& path, int mode) override {
    if (fails()) return -1;
    made_.insert(path);
    return FileSystem::mkdir(path, mode);
  }

  // Number of different ways in which the crash may have left the disk.
  static constexpr int kVariants = 14;
  // Writes the disk as it may be found after the crash to `target` (an empty folder). Each change
  // of a name and all unsynced bytes are there or not: variants 0 to 5 are the extremes (names old
  // or new; bytes synced only, all, or half of the unsynced ones), the others a mixture.
  void leave(const std::string& target, int variant) const {
    std::mt19937 random(static_cast<unsigned>(variant));
    auto newer = [&] { return variant < 6 ? variant % 2 == 1 : random() % 2 == 1; };
    std::set<std::string> folders{root_};
    for (const std::string& made : made_)  // parents sort before their children
      if (folders.contains(parent(made)) && (synced_made_.contains(made) || newer()))
        folders.insert(made);
    for (const std::string& folder : folders)
      std::filesystem::create_directories(target + folder.substr(root_.size()));
    std::set<std::string> paths;
    for (const auto& names : {names_, synced_names_})
      for (const auto& [path, inode] : names) paths.insert(path);
    for (const std::string& path : paths) {
      if (!folders.contains(parent(path))) continue;
      const auto& names = newer() ? names_ : synced_names_;
      const auto found = names.find(path);
      if (found == names.end()) continue;
      const std::string& now = found->second->now;
      const std::string& synced = found->second->synced;
      const int bytes = variant < 6 ? variant / 2 : static_cast<int>(random() % 3);
      std::string content = bytes == 1 ? now : synced;
      if (bytes == 2) content = now.substr(0, (synced.size() + now.size()) / 2);
      std::ofstream(target + path.substr(root_.size()), std::ios::binary) << content;
    }
  }

 private:
  struct Inode {
    std::string now, synced;
  };
  static std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }
  bool fails() {
    const int64_t call = calls++;
    if (crash_at >= 0 && call >= crash_at) return errno = EIO, true;
    if (call == fail_at) return errno = failure, true;
    return false;
  }

  std::string root_;
  std::map<std::string, std::shared_ptr<Inode>> names_, synced_names_;
  std::set<std::string> made_, synced_made_;  // folders
  std::map<int, std::shared_ptr<Inode>> files_;
  std::map<int, std::string> folders_;
};

}  // namespace svfleet
