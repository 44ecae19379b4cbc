// How much memory there is for this process, who holds it, and whose fault it is when it is not
// enough.
#pragma once

#include <cstdint>
#include <string>

namespace svfleet {

struct Memory {
  std::string what;                        // "GPU 0", "host memory", "the control group"
  int64_t limit = 0, own = 0, others = 0;  // bytes; 0 = not known
};

// Of the host, or of the control group of this process, whichever ends first. Its own bytes are
// those in memory that no file backs. Never throws.
Memory host_memory();
// Gives back to the system what lies free between what this process holds.
void give_back_memory();

// From the text of libtorch's error, in which sizes are rounded.
Memory gpu_memory(const std::string& text);

// The bytes that were asked for, from the text of libtorch's error of either kind; 0 = not told.
int64_t bytes_asked(const std::string& text);

// Whether this process alone wants more than there is: no other machine of that kind will do. Where
// the request is not known, whether it holds half of all there is.
bool too_much_for_one(int64_t asked, const Memory& memory);

}  // namespace svfleet
