// Threads that work through the chunks of a queue (comm/chunk_queue.h), and their first error.
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "comm/chunk_queue.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "comm/watch.h"

namespace svfleet {

void work_through(ChunkQueue& queue, int workers, const std::function<void(int)>& work,
                  const std::function<bool()>& idle, std::string_view op,
                  const std::function<bool()>& may_start) {
  SVFLEET_CHECK(workers >= 1, workers, " workers");
  std::mutex mutex;
  std::condition_variable changed;
  int running = workers;
  std::exception_ptr first;

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
      try {
        while (!failed()) {
          // Here and not in `idle`, which looks a little later: by then a chunk would be out.
          if (may_start && !may_start()) {
            queue.cancel_round();
            break;
          }
          const auto chunk = queue.next();
          if (!chunk) break;
          {
            const Watch::Hold hold(queue.watch(), *chunk);
            work(*chunk);
          }
          queue.finished(*chunk);
        }
      } catch (...) {
        fail();
      }
      std::lock_guard<std::mutex> lock(mutex);
      --running;
      changed.notify_all();
    });
  }

  const InStage waiting(Stage::kWaiting);
  bool cancelled = false;
  std::unique_lock<std::mutex> lock(mutex);
  while (!changed.wait_for(lock, std::chrono::milliseconds(200), [&] { return running == 0; })) {
    const bool stopping = cancelled || first;
    lock.unlock();
    try {
      queue.watch().check(op);
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
