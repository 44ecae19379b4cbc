// An expert on another factor store of the same model. Near-equal singular values have no unique
// basis, so that two stores differ by rotations among them, by signs, and by rounding.
//
// With P = Q'^T Q and D = diag(z-1) the change in the other basis is the core M = P D P^T, and no
// diagonal is nearer to it than its own: z'_i - 1 = M_ii = sum_j P_ij^2 (z_j - 1). That holds for
// |C - C'| and for |Delta W - Delta W'| alike, since W Q' has orthogonal columns of length sigma'
// (right; rows of Q'^T W on the left): |Delta W - Delta W'|^2 = sum_{i != j} sigma'_i^2 M_ij^2.
//
// A store of version 1 may have Q on the other side than one of version 2. V = W^T U / sigma then.
#pragma once

#include <span>
#include <vector>

#include "svd/factor.h"

namespace svfleet {

// `factor` of `weight` [m, n], float64, with its directions on the other side, in float64.
// Directions of less than 1e-5 of the largest singular value are left out (zeros): through W they
// would be made of the rounding of the others, and what z moves of them is no more than that of W.
Factor other_side(Factor factor, const at::Tensor& weight);

struct Rebased {
  std::vector<float> z;  // [r]
  double norm2 = 0;      // |Delta W|_F^2
  double lost2 = 0;      // of it, what no diagonal of the other basis has
};

// `from` and `to` of one tensor, in one form.
Rebased rebased(const Factor& from, const Factor& to, std::span<const float> z);

}  // namespace svfleet
