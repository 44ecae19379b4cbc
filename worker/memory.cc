#include "worker/memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "worker/free_memory.h"

namespace svfleet {
namespace {

// Bytes; 0 when it is not there.
int64_t kib_of(const char* file, const char* key) {
  return entry_of(file, key).value_or(0) * 1024;
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
  memory.limit = kib_of("/proc/meminfo", "MemTotal:");
  memory.own = kib_of("/proc/self/status", "RssAnon:") + kib_of("/proc/self/status", "RssShmem:");
  int64_t used = memory.limit - kib_of("/proc/meminfo", "MemAvailable:");
  for (const ControlGroup& group : control_groups()) {
    if (memory.limit > 0 && group.limit >= memory.limit) continue;
    memory.what = "the control group's memory";
    memory.limit = group.limit;
    used = group.used;
  }
  memory.others = std::max<int64_t>(0, used - memory.own);
  return memory;
}

void give_back_memory() {
  malloc_trim(0);
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
