// Threads that work through the chunks of a queue (comm/hand.h), and their first error.
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "comm/error.h"
#include "comm/hand.h"

namespace svfleet {

void work_through(ChunkQueue& queue, const std::function<void(Hand&)>& worker,
                  const WorkRules& rules) {
  SVFLEET_CHECK(rules.workers >= 1, rules.workers, " workers");
  std::mutex mutex;
  std::condition_variable changed;
  int running = rules.workers;
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

  const auto work = [&](int number) {
    try {
      Hand hand(queue, rules.hand, number);
      worker(hand);
      hand.leave();
    } catch (...) {
      fail();
    }
    std::lock_guard<std::mutex> lock(mutex);
    --running;
    changed.notify_all();
  };
  std::vector<std::thread> threads;
  try {
    while (int(threads.size()) < rules.workers) threads.emplace_back(work, int(threads.size()));
  } catch (...) {  // those that have been started are waited for, as after an error of their own
    fail();
    std::lock_guard<std::mutex> lock(mutex);
    running -= rules.workers - int(threads.size());
  }

  const InStage waiting(Stage::kWaiting);
  bool cancelled = false;
  std::unique_lock<std::mutex> lock(mutex);
  while (!changed.wait_for(lock, std::chrono::milliseconds(200), [&] { return running == 0; })) {
    const bool stopping = cancelled || first;
    lock.unlock();
    try {
      queue.watch().check(rules.op);
      if (rules.idle && !stopping && !rules.idle()) {
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

void work_through(ChunkQueue& queue, int workers, const std::function<void(int)>& work,
                  const std::function<bool()>& idle) {
  const auto worker = [&](Hand& hand) {
    while (const auto chunk = hand.take()) {
      work(*chunk);
      hand.finished(*chunk);
    }
  };
  work_through(queue, worker, {.workers = workers, .idle = idle});
}

}  // namespace svfleet
