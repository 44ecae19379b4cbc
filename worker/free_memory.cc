#include "worker/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace svfleet {
namespace {

std::optional<int64_t> number_in(const std::string& file) {
  int64_t value = 0;
  if (std::ifstream(file) >> value) return value;
  return std::nullopt;  // not there, or "max"
}

}  // namespace

std::optional<int64_t> entry_of(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

std::vector<ControlGroup> control_groups(const std::string& proc, const std::string& groups) {
  std::vector<ControlGroup> found;
  std::ifstream lines(proc + "/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const bool second = line.starts_with("0::");
    const size_t memory = line.find(":memory:");
    if (!second && memory == line.npos) continue;
    const std::string root = second ? groups : groups + "/memory";
    std::string path = line.substr(second ? 3 : memory + 8);
    while (true) {
      const std::string folder = root + path + "/memory.";
      const auto limit = number_in(folder + (second ? "max" : "limit_in_bytes"));
      const auto used = number_in(folder + (second ? "current" : "usage_in_bytes"));
      const auto cache =
          entry_of(folder + "stat", second ? "inactive_file" : "total_inactive_file");
      if (limit && used) found.push_back({*limit, *used, cache.value_or(0)});
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return found;
}

int64_t free_memory(const std::string& proc, const std::string& groups) {
  int64_t least = std::numeric_limits<int64_t>::max();
  if (const auto kib = entry_of(proc + "/meminfo", "MemAvailable:")) least = *kib * 1024;
  for (const ControlGroup& group : control_groups(proc, groups))
    least = std::min(least, std::max<int64_t>(0, group.limit - group.used + group.cache));
  return least;
}

}  // namespace svfleet
