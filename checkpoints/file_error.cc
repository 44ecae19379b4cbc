#include "checkpoints/file_error.h"

#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>

#include "checkpoints/file.h"
#include "checkpoints/process.h"
#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

std::string size_text(size_t bytes) {
  if (bytes < 10'000) return std::to_string(bytes) + " bytes";
  if (bytes < 1'000'000) return std::to_string((bytes + 999) / 1000) + " kB";
  return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
}

constexpr char kSafe[] = "nothing saved so far is lost";

struct Guard {
  std::string prefix;  // of the paths that it is for
  std::function<void()> check;
  double append_patience_s = 0;
  std::atomic<double> good_until_s = -1;  // for appends
};
std::mutex guard_mutex;
std::shared_ptr<Guard> guard;

std::shared_ptr<Guard> guard_of(const std::string& path) {
  std::lock_guard<std::mutex> lock(guard_mutex);
  return guard && path.starts_with(guard->prefix) ? guard : nullptr;
}

// What a process that has no run folder yet cannot open is for a person to mend. Once it has one,
// its folder was there: this machine has lost its way to it.
[[noreturn]] void out_of_reach(const std::string& path, const std::string& what,
                               const std::string& remedy) {
  if (guard_of(path + "/") || guard_of(path))
    throw node_error(
        kExitDisk, what, " on host ", host_name(),
        ", where the run could write before; check the disk there and start again: ", kSafe);
  throw Error(kExitUser, what + remedy, true);
}

}  // namespace

bool check_guard(const std::string& path) {
  const auto now = guard_of(path);
  if (!now) return false;
  const double begun_s = steady_clock_s();
  now->check();
  now->good_until_s = begun_s + now->append_patience_s;
  return true;
}

void check_guard_of_append(const std::string& path) {
  const auto now = guard_of(path);
  if (now && steady_clock_s() >= now->good_until_s) check_guard(path);
}

void write_failed(const std::string& path, const char* call, int error, size_t bytes) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      throw disk_error(error == ENOSPC ? "disk" : "quota", " full writing '", path,
                       "': ", size_text(bytes), " needed; free space and start again: ", kSafe);
    case EROFS:
    case EACCES:
    case EPERM:
      out_of_reach(path, "cannot write '" + path + "': " + reason(error),
                   std::string("; make its folder writable or choose another one: ") + kSafe);
    case ENOENT:
    case ENOTDIR:
      out_of_reach(path, "cannot write '" + path + "': its folder does not exist",
                   std::string("; ") + kSafe);
    default:
      throw node_error(kExitDisk, "cannot write '", path, "': ", reason(error), " in ", call,
                       "; check the disk and start again: ", kSafe);
  }
}

void read_failed(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      throw Error(kExitUser, "cannot read '" + path + "': no such file; check the path", true);
    case EACCES:
    case EPERM:
      out_of_reach(path, "cannot read '" + path + "': " + reason(error), "; make it readable");
    case EISDIR:
      throw user_error("cannot read '", path, "': it is a folder, not a file");
    default:
      throw node_error(kExitDisk, "cannot read '", path, "': ", reason(error), "; check the disk");
  }
}

WriteGuard::WriteGuard(std::string folder, std::function<void()> check, double append_patience_s) {
  while (folder.ends_with('/')) folder.pop_back();
  std::lock_guard<std::mutex> lock(guard_mutex);
  SVFLEET_CHECK(!guard, "a guard for ", folder, " beside that for ", guard->prefix);
  guard = std::make_shared<Guard>(folder + "/", std::move(check), append_patience_s);
}

WriteGuard::~WriteGuard() {
  std::lock_guard<std::mutex> lock(guard_mutex);
  guard.reset();
}

}  // namespace svfleet
