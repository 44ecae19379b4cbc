#include "worker/memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

namespace svfleet {
namespace {

// "Name:   123 kB" in a file of /proc, in bytes; 0 when it is not there.
int64_t entry(const char* file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string key, line; std::getline(lines, line);) {
    std::istringstream words(line);
    int64_t kib = 0;
    if (words >> key >> kib && key == name) return kib * 1024;
  }
  return 0;
}

// The number in a file, or nothing of use ("max"): 0.
int64_t number_in(const std::string& file) {
  int64_t value = 0;
  std::ifstream(file) >> value;
  return value;
}

// The strictest control group from that of this process up to the root; limit 0 = none.
Memory control_group() {
  Memory strictest{"the control group's memory"};
  std::ifstream lines("/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const bool second = line.starts_with("0::");
    const size_t memory = line.find(":memory:");
    if (!second && memory == line.npos) continue;
    const std::string root = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    std::string path = line.substr(second ? 3 : memory + 8);
    while (true) {
      const std::string folder = root + path + "/memory.";
      const int64_t limit = number_in(folder + (second ? "max" : "limit_in_bytes"));
      if (limit > 0 && (strictest.limit == 0 || limit < strictest.limit)) {
        strictest.limit = limit;
        strictest.others = number_in(folder + (second ? "current" : "usage_in_bytes"));
      }
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return strictest;
}

// "2.50 GiB" or "123 bytes" after `before`; 0 when it is not there.
int64_t size_after(const std::string& text, const std::string& before) {
  const size_t at = text.find(before);
  if (at == text.npos) return 0;
  std::istringstream words(text.substr(at + before.size()));
  double value = 0;
  std::string unit;
  if (!(words >> value >> unit)) return 0;
  const size_t power = std::string("BKMGTP").find(unit == "bytes" ? 'B' : unit[0]);
  return power == std::string::npos ? 0 : int64_t(value * double(int64_t(1) << (10 * power)));
}

}  // namespace

Memory host_memory() {
  Memory memory{"host memory"};
  memory.limit = entry("/proc/meminfo", "MemTotal:");
  memory.own = entry("/proc/self/status", "RssAnon:") + entry("/proc/self/status", "RssShmem:");
  int64_t used = memory.limit - entry("/proc/meminfo", "MemAvailable:");
  const Memory group = control_group();
  if (group.limit > 0 && (memory.limit == 0 || group.limit < memory.limit)) {
    memory.what = group.what;
    memory.limit = group.limit;
    used = group.others;
  }
  memory.others = std::max<int64_t>(0, used - memory.own);
  return memory;
}

Memory gpu_memory(const std::string& text) {
  Memory memory{"the GPU's memory"};
  memory.limit = size_after(text, "total capacity of ");
  memory.own = size_after(text, "this process has ");
  if (memory.own == 0)
    memory.own = size_after(text, "Of the allocated memory ") + size_after(text, "PyTorch, and ");
  const int64_t free = size_after(text, " of which ");
  memory.others = std::max<int64_t>(0, memory.limit - free - memory.own);
  return memory;
}

int64_t bytes_asked(const std::string& text) {
  const std::string host = "you tried to allocate ";
  if (const size_t at = text.find(host); at != text.npos)
    return std::strtoll(text.c_str() + at + host.size(), nullptr, 10);
  return size_after(text, "Tried to allocate ");
}

bool too_much_for_one(int64_t asked, const Memory& memory) {
  if (memory.limit <= 0) return true;  // nothing to compare with: a person must look
  if (asked <= 0) return memory.own > memory.limit / 2;
  return asked > memory.limit || memory.own > memory.limit - asked;
}

}  // namespace svfleet
