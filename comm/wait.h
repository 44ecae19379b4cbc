// How ranks wait: until a deadline, with sleeps that grow, so that a waiting rank leaves a shared
// core to a working one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace svfleet {

class Deadline {
 public:
  explicit Deadline(double seconds)
      : seconds_(seconds), end_(Clock::now() + std::chrono::duration<double>(seconds)) {}
  bool passed() const { return Clock::now() >= end_; }
  double seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_;
  std::chrono::time_point<Clock, std::chrono::duration<double>> end_;
};

// Called between two looks at something: yields a few times, then sleeps longer and longer.
class Patience {
 public:
  explicit Patience(double longest_s = 1e-3) : longest_s_(longest_s) {}
  void pause();

 private:
  double longest_s_;
  double sleep_s_ = 0;
  int yields_ = 0;
};

// "timeout after 600 s in 'reduce gradient' of step 12": how every expiry begins.
std::string expiry(double timeout_s, std::string_view op, int64_t step);

// Gives the process up (comm/give_up.h), with `line` and `code`, when it still lives after
// `seconds`. For what can only block: a few calls of libraries, a last word on a disk.
class Watchdog {
 public:
  Watchdog(std::string line, double seconds, int code);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable called_off_;
  bool over_ = false;
  std::thread thread_;
};

// This process is to end: at the latest after `seconds`, in the way of a Watchdog that nobody calls
// off. Never throws: where no thread can be started, it ends by itself or not at all.
void end_within(double seconds, const std::string& line, int code);

}  // namespace svfleet
