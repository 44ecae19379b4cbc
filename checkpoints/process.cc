#include "checkpoints/process.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
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

}  // namespace svfleet
