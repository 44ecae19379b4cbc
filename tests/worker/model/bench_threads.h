// Work in several threads, each of which computes with its own.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "worker/threads.h"

namespace svfleet {

// Calls work(0..threads-1), each in a thread of its own.
template <class Work>
void in_threads(int threads, Work work) {
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&work, t] {
      set_compute_threads_here();
      work(t);
    });
  for (std::thread& thread : all) thread.join();
}

// Calls work(0..count-1) by so many threads, whoever is free.
template <class Work>
void side_by_side(int threads, int64_t count, Work work) {
  std::atomic<int64_t> next = 0;
  in_threads(threads, [&](int) {
    for (int64_t i = next++; i < count; i = next++) work(i);
  });
}

}  // namespace svfleet
