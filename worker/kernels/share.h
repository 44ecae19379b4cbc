// Cutting work into equal parts for threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "worker/kernels/team.h"

namespace svfleet {

// f(first, count) for parts of [0, count), cut at multiples of `step`, by a team of `threads` and
// whoever is free; where the work (in numbers touched) is not worth calling them for, all at once
// here.
template <class F>
void share(int64_t count, int64_t step, int64_t work, int threads, F f) {
  constexpr int64_t kWorth = 32768;
  const int most = work < kWorth || count <= step ? 1 : team_size(threads);
  if (most <= 1) return f(int64_t{0}, count);
  const int64_t steps = (count + step - 1) / step, parts = std::min<int64_t>(steps, 2 * most);
  in_parts(parts, most, [&](int64_t part, int) {
    const int64_t first = steps * part / parts * step;
    f(first, std::min(steps * (part + 1) / parts * step, count) - first);
  });
}

}  // namespace svfleet
