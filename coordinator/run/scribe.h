// A thread that writes what is told, in order, so that nobody who computes waits for a disk.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace svfleet {

class Scribe {
 public:
  explicit Scribe(size_t most = 256);
  ~Scribe();  // all of it is written
  Scribe(const Scribe&) = delete;

  // Any thread. Waits while `most` are waiting; throws what an earlier one threw. Whoever
  // waits here moves on (comm/stage.h) with each that is written.
  void post(std::function<void()> write);
  // Waits until all of it is written: false when that takes longer. Throws what one of them threw.
  bool settle(double most_s);

 private:
  void work();
  bool wait(std::unique_lock<std::mutex>& lock, double most_s, const std::function<bool()>& until);

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool busy_ = false, over_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace svfleet
