#include "worker/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace svfleet {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

std::optional<int64_t> number_in(const std::string& file) {
  int64_t value = 0;
  if (std::ifstream(file) >> value) return value;
  return std::nullopt;  // not there, or "max"
}

// The number after `key` at the start of a line.
std::optional<int64_t> entry(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

// What one control group leaves.
int64_t left_by(const std::string& folder, bool second) {
  const auto limit = number_in(folder + (second ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto used = number_in(folder + (second ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return kUnknown;
  const auto cache =
      entry(folder + "/memory.stat", second ? "inactive_file" : "total_inactive_file");
  return std::max<int64_t>(0, *limit - *used + cache.value_or(0));
}

}  // namespace

int64_t free_memory(const std::string& proc, const std::string& groups) {
  int64_t least = kUnknown;
  if (const auto kib = entry(proc + "/meminfo", "MemAvailable:")) least = *kib * 1024;
  std::ifstream lines(proc + "/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const bool second = line.starts_with("0::");
    const size_t memory = line.find(":memory:");
    if (!second && memory == line.npos) continue;
    const std::string root = second ? groups : groups + "/memory";
    std::string path = line.substr(second ? 3 : memory + 8);
    while (true) {  // a limit holds for all below it
      least = std::min(least, left_by(root + path, second));
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return least;
}

}  // namespace svfleet
