// How ranks wait: until a deadline, with sleeps that grow, so that a waiting rank leaves a shared
// core to a working one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
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

// Ends the process with kExitRequeue, after one line on stderr, when it still lives after
// `seconds`. For the few library calls that can only block.
class Watchdog {
 public:
  Watchdog(std::string what, double seconds);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable called_off_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace svfleet
