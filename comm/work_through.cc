#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/chunk_queue.h"
#include "comm/error.h"

namespace svfleet {

void work_through(ChunkQueue& queue, int workers, const std::function<void(int)>& work,
                  const std::function<bool()>& idle, std::string_view op) {
  SVFLEET_CHECK(workers >= 1, workers, " workers");
  std::mutex mutex;
  std::condition_variable changed;
  int running = workers;
  std::exception_ptr first;
  using Clock = std::chrono::steady_clock;
  std::map<int, Clock::time_point> began;  // of the chunks that are being worked on

  // Called in a catch block. The error that came first is the one worth telling.
  auto fail = [&] {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (!first) first = std::current_exception();
    }
    try {
      queue.cancel_round();
    } catch (...) {
      // Rank 0 cannot be told; the error above already ends this rank, and so the job.
    }
  };
  auto failed = [&] {
    std::lock_guard<std::mutex> lock(mutex);
    return first != nullptr;
  };

  std::vector<std::thread> threads;
  for (int i = 0; i < workers; ++i) {
    threads.emplace_back([&] {
      std::optional<int> chunk;
      try {
        while (!failed() && (chunk = queue.next())) {
          {
            std::lock_guard<std::mutex> lock(mutex);
            began[*chunk] = Clock::now();
          }
          work(*chunk);
          {
            std::lock_guard<std::mutex> lock(mutex);
            began.erase(*chunk);
          }
          queue.finished(*chunk);
        }
      } catch (...) {
        fail();
      }
      std::lock_guard<std::mutex> lock(mutex);
      if (chunk) began.erase(*chunk);  // that failed
      --running;
      changed.notify_all();
    });
  }

  bool cancelled = false;
  int looks = 0;
  std::unique_lock<std::mutex> lock(mutex);
  while (!changed.wait_for(lock, std::chrono::milliseconds(200), [&] { return running == 0; })) {
    const bool stopping = cancelled || first;
    const auto longest =
        std::min_element(began.begin(), began.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (longest != began.end())
      queue.end_if_stuck(longest->first,
                         std::chrono::duration<double>(Clock::now() - longest->second).count(), op);
    lock.unlock();
    try {
      if (++looks % 5 == 0) queue.alive(op);
      if (idle && !stopping && !idle()) {
        cancelled = true;
        queue.cancel_round();
      }
    } catch (...) {
      fail();
    }
    lock.lock();
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace svfleet
