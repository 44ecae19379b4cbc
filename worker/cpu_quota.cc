#include "worker/cpu_quota.h"

#include <algorithm>
#include <climits>
#include <fstream>
#include <optional>

namespace svfleet {
namespace {

// Of one control group of version 2: "150000 100000" or "max 100000".
std::optional<double> quota_2(const std::string& folder) {
  double quota = 0, period = 0;
  std::ifstream file(folder + "/cpu.max");
  if (file >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

// Of version 1: -1 is no limit.
std::optional<double> quota_1(const std::string& folder) {
  double quota = 0, period = 0;
  std::ifstream first(folder + "/cpu.cfs_quota_us"), second(folder + "/cpu.cfs_period_us");
  if (first >> quota && second >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

// Whether `controllers` ("cpu,cpuacct") has the one for time.
bool has_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

int cpu_quota(const std::string& proc, const std::string& groups) {
  double least = INT_MAX;
  std::ifstream lines(proc + "/self/cgroup");
  for (std::string line; std::getline(lines, line);) {  // "0::/path" or "4:cpu,cpuacct:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !has_cpu(controllers)) continue;
    std::string path = line.substr(second + 1);
    // Inside a container the path may be the host's: the limit then stands at the root.
    for (;;) {
      const auto quota =
          controllers.empty() ? quota_2(groups + path) : quota_1(groups + "/" + controllers + path);
      if (quota) least = std::min(least, *quota);
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return std::max(1, int(least));
}

}  // namespace svfleet
