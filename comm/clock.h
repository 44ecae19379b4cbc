// Time: as it passes, and as a calendar has it.
#pragma once

#include <string>

namespace svfleet {

double steady_clock_s();  // for durations: since some moment, and never set
double wall_clock_s();    // since 1970, as the machine's clock says

// "2026-03-01T12:00:00Z" of wall_clock_s(), or with another strftime format.
std::string utc(double wall_s, const char* format = "%Y-%m-%dT%H:%M:%SZ");

// Seconds since it was made or last asked.
class Stopwatch {
 public:
  double lap() {
    const double before = last_s_;
    last_s_ = steady_clock_s();
    return last_s_ - before;
  }

 private:
  double last_s_ = steady_clock_s();
};

}  // namespace svfleet
