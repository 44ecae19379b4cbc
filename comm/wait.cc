#include "comm/wait.h"

#include <algorithm>
#include <atomic>
#include <sstream>
#include <system_error>

#include "comm/give_up.h"

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

std::string expiry(double timeout_s, std::string_view op, int64_t step) {
  std::ostringstream out;
  out << "timeout after " << timeout_s << " s in '" << op << "'";
  if (step >= 0) out << " of step " << step;
  return out.str();
}

Watchdog::Watchdog(std::string line, double seconds, int code)
    : thread_([this, line = std::move(line), seconds, code] {
        std::unique_lock<std::mutex> lock(mutex_);
        if (called_off_.wait_for(lock, std::chrono::duration<double>(seconds),
                                 [this] { return over_; }))
          return;
        give_up(line, code);
      }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  called_off_.notify_all();
  thread_.join();
}

void end_within(double seconds, const std::string& line, int code) {
  static std::atomic<Watchdog*> never_called_off;
  try {
    never_called_off = new Watchdog(line, seconds, code);
  } catch (const std::system_error&) {  // which may be what ends this process
  }
}

}  // namespace svfleet
