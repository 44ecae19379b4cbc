#include "worker/kernels/attention_order.h"

#include <limits>
#include <thread>

namespace svfleet {
namespace {

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
constexpr int kSpins = 2000;  // some microseconds, of which a page takes a few

}  // namespace

PageOrder::PageOrder(int64_t tiles) : left_(new std::atomic<int64_t>[tiles]) {
  for (int64_t i = 0; i < tiles; ++i) left_[i].store(0, std::memory_order_relaxed);
}

void PageOrder::wait(int64_t tile, int64_t page) const {
  int64_t first = unfinished_.load(std::memory_order_acquire);
  while (first < tile && left_[first].load(std::memory_order_acquire) == kAll) ++first;
  // Another thread's smaller number may overwrite ours: more to look at, and still right.
  unfinished_.store(first, std::memory_order_release);
  for (int64_t before = first; before < tile; ++before)
    for (int spins = 0; left_[before].load(std::memory_order_acquire) <= page; ++spins) {
      if (spins < kSpins)
        __builtin_ia32_pause();
      else
        std::this_thread::yield();
    }
}

void PageOrder::leave(int64_t tile, int64_t page) {
  left_[tile].store(page + 1, std::memory_order_release);
}

void PageOrder::finish(int64_t tile) {
  left_[tile].store(kAll, std::memory_order_release);
}

}  // namespace svfleet
