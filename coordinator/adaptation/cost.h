// What a pass has cost.
#pragma once

#include <cstdint>

namespace svfleet {

struct Cost {
  double seconds = 0;
  int64_t read = 0;     // tokens of prompts, and of given texts that were judged
  int64_t written = 0;  // tokens of replies
};

}  // namespace svfleet
