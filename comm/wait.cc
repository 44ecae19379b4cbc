#include "comm/wait.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "comm/error.h"

namespace svfleet {

void Patience::pause() {
  if (yields_ < 20) {
    ++yields_;
    std::this_thread::yield();
    return;
  }
  sleep_s_ = std::min(longest_s_, std::max(20e-6, 1.5 * sleep_s_));
  std::this_thread::sleep_for(std::chrono::duration<double>(sleep_s_));
}

Watchdog::Watchdog(std::string what, double seconds)
    : thread_([this, what = std::move(what), seconds] {
        std::unique_lock<std::mutex> lock(mutex_);
        if (called_off_.wait_for(lock, std::chrono::duration<double>(seconds),
                                 [this] { return over_; }))
          return;
        std::fprintf(stderr,
                     "svfleet: timeout after %g s in %s; another rank or its node has failed\n",
                     seconds, what.c_str());
        std::fflush(nullptr);
        _exit(kExitRequeue);
      }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  called_off_.notify_all();
  thread_.join();
}

}  // namespace svfleet
