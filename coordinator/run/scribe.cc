#include "coordinator/run/scribe.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "comm/clock.h"
#include "comm/stage.h"

namespace svfleet {

Scribe::Scribe(size_t most) : most_(most), thread_([this] { work(); }) {}

Scribe::~Scribe() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Scribe::post(std::function<void()> write) {
  std::unique_lock lock(mutex_);
  wait(lock, std::numeric_limits<double>::infinity(), [&] { return waiting_.size() < most_; });
  waiting_.push_back(std::move(write));
  changed_.notify_all();
}

bool Scribe::settle(double most_s) {
  std::unique_lock lock(mutex_);
  return wait(lock, most_s, [&] { return waiting_.empty() && !busy_; });
}

bool Scribe::wait(std::unique_lock<std::mutex>& lock, double most_s,
                  const std::function<bool()>& until) {
  const InStage telling(Stage::kTelling);
  const double end_s = steady_clock_s() + most_s;
  for (size_t left = waiting_.size(); !failure_ && !until();) {
    const double now_s = steady_clock_s();
    if (now_s >= end_s) return false;
    changed_.wait_for(lock, std::chrono::duration<double>(std::min(1.0, end_s - now_s)));
    if (waiting_.size() != left) enter(Stage::kTelling);
    left = waiting_.size();
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return true;
}

void Scribe::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return over_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const auto write = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    changed_.notify_all();
    lock.unlock();
    std::exception_ptr failure;
    try {
      write();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    busy_ = false;
    if (failure && !failure_) failure_ = failure;
    changed_.notify_all();
  }
}

}  // namespace svfleet
