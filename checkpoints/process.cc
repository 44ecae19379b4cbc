#include "checkpoints/process.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

namespace svfleet {

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return "unknown-host";
  return name;
}

int64_t process_start(int64_t pid) {
  if (pid <= 0) return 0;
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  const std::string stat{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  // pid (name) state ...: the name may hold spaces and brackets, so count from the last bracket.
  const size_t bracket = stat.rfind(')');
  if (bracket == std::string::npos) {
    const bool runs = kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM;
    return runs ? -1 : 0;
  }
  std::istringstream fields(stat.substr(bracket + 1));
  std::string state, skipped;
  fields >> state;
  if (state == "Z" || state == "X") return 0;
  for (int field = 4; field < 22; ++field) fields >> skipped;  // proc(5): 22 is starttime
  int64_t start = -1;
  fields >> start;
  return start;
}

bool process_runs(int64_t pid, int64_t start) {
  const int64_t now = process_start(pid);
  if (now == 0) return false;
  return now < 0 || start <= 0 || now == start;
}

std::string process_mark() {
  static std::atomic<int64_t> count{0};
  const int64_t pid = getpid();
  return host_name().substr(0, 64) + "-" + std::to_string(pid) + "-" +
         std::to_string(process_start(pid)) + "-" + std::to_string(count++);
}

std::optional<bool> mark_is_dead(const std::string& mark, bool* is_mark) {
  if (is_mark) *is_mark = false;
  std::string rest = mark;
  int64_t numbers[3];  // n, start, pid, from the end: host names hold hyphens
  for (int64_t& number : numbers) {
    const size_t hyphen = rest.rfind('-');
    if (hyphen == rest.npos) return std::nullopt;
    const char* end = rest.data() + rest.size();
    const auto parsed = std::from_chars(rest.data() + hyphen + 1, end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
    rest.resize(hyphen);
  }
  if (is_mark) *is_mark = true;
  if (rest != host_name().substr(0, 64)) return std::nullopt;
  return !process_runs(numbers[2], numbers[1]);
}

}  // namespace svfleet
