// Numbers of things in messages: "1 step", "3 steps".
#pragma once

#include <cstdint>
#include <string>

namespace svfleet {

// `what` in the singular, of those that an s makes many.
inline std::string counted(int64_t n, const std::string& what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

}  // namespace svfleet
