// Sums of float vectors that do not depend on order, grouping or the number of ranks: fixed point.
//
// One exponent per segment (per matrix) over all terms of all ranks, each term rounded to int64
// with 62 - ceil(log2(max_terms)) bits, integers added and all-reduced. See docs/exact_sum.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/group.h"
#include "comm/reducer.h"

namespace svfleet {

struct ExactTotal {
  bool finite = true;       // false: some term on some rank held a NaN or infinity; sum is empty
  std::vector<double> sum;  // [n]
};

// Collective. The exponents and what stops all ranks go over `group`, the integers over `reducer`.
// `terms` are this rank's vectors, each of segment_ends.back() floats; any number,
// zero included. `max_terms` bounds the number of terms over all ranks and is the same on every
// rank (and on every rank count: it comes from the configuration). Throws kExitInternal when the
// terms of all ranks together are more than max_terms.
ExactTotal exact_sum(const std::vector<std::span<const float>>& terms,
                     std::span<const int64_t> segment_ends, int64_t max_terms, Group& group,
                     Reducer& reducer);

}  // namespace svfleet
