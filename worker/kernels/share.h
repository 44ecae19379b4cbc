// Cutting work into equal parts for threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace svfleet {

// f(first, count) for `threads` parts of [0, count), cut at multiples of `step`; where the work (in
// numbers touched) is not worth waking threads for, all at once here.
template <class F>
void share(int64_t count, int64_t step, int64_t work, int threads, F f) {
  constexpr int64_t kWorth = 32768;
  if (threads <= 1 || work < kWorth || count <= step) return f(int64_t{0}, count);
  const int64_t steps = (count + step - 1) / step;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; ++part) {
    const int64_t first = steps * part / threads * step;
    const int64_t end = std::min(steps * (part + 1) / threads * step, count);
    if (first < end) f(first, end - first);
  }
}

}  // namespace svfleet
