// An expert as a LoRA. An expert with k entries of z other than 1 is one of rank k:
//   right: W + W Q diag(z-1) Q^T = W + B A,  B = W Q_k diag(z_k-1),  A = Q_k^T
//   left:  W + Q diag(z-1) Q^T W = W + B A,  B = Q_k diag(z_k-1),    A = Q_k^T W
// Its change is U diag(sigma (z-1)) V^T, so that of all changes of rank k none is nearer than the
// one that keeps the k largest |sigma_i (z_i-1)| (Eckart and Young), and what it loses is the norm
// of the others.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "svd/factor.h"

namespace svfleet {

struct LoraFactors {
  at::Tensor b, a;    // [m, k], [k, n]; float32
  int64_t moved = 0;  // components that z moves
  double norm2 = 0;   // |Delta W|_F^2
  double lost2 = 0;   // of it, in components beyond the rank
  int64_t rank() const { return a.size(0); }
};

// `weight` [m, n] float64; `z` [r]; of rank `most` at most. Components that change nothing, with
// z = 1 or sigma = 0, do not count; rank 0 where there is no other.
LoraFactors lora_of(const Factor& factor, const at::Tensor& weight, std::span<const float> z,
                    int64_t most);

}  // namespace svfleet
