// Choosing a token from a distribution, given a keyed uniform number. Plain C++.
#pragma once

#include <cstdint>

namespace svfleet {

struct SamplingOptions {
  double temperature = 1;  // 0 = greedy
  int64_t top_k = 0;       // 0 = off
  double top_p = 1;        // 1 = off
  double min_p = 0;        // 0 = off: tokens below min_p times the largest probability are left out
  uint64_t seed = 0;
  int64_t step = 0;  // of training; part of the random numbers' key
};

// `probabilities` [n]: softmax(logits / T), not necessarily summing to exactly 1. `uniform` in
// [0, 1). The limits apply in the order top-k, top-p, min-p, each to what the one before left. Ties
// go to the lower token id.
int choose_token(const float* probabilities, int64_t n, const SamplingOptions& options,
                 double uniform);
int most_likely(const float* values, int64_t n);

}  // namespace svfleet
