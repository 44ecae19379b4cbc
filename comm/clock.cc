#include "comm/clock.h"

#include <chrono>
#include <ctime>

namespace svfleet {

double steady_clock_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double wall_clock_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string utc(double wall_s, const char* format) {
  const auto whole = std::time_t(wall_s);
  std::tm parts{};
  gmtime_r(&whole, &parts);
  char text[64];
  return std::string(text, std::strftime(text, sizeof text, format, &parts));
}

}  // namespace svfleet
