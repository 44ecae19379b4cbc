// An expert on another factor store of the same model. Near-equal singular values have no unique
// basis, so that two stores differ by rotations among them, by signs, and by rounding.
//
// With P = Q'^T Q and D = diag(z-1) the change in the other basis is the core M = P D P^T, and no
// diagonal is nearer to it than its own: z'_i - 1 = M_ii = sum_j P_ij^2 (z_j - 1). That holds for
// |C - C'| and for |Delta W - Delta W'| alike, since W Q' has orthogonal columns of length sigma'
// (right; rows of Q'^T W on the left): |Delta W - Delta W'|^2 = sum_{i != j} sigma'_i^2 M_ij^2.
#pragma once

#include <span>
#include <vector>

#include "svd/factor.h"

namespace svfleet {

struct Rebased {
  std::vector<float> z;  // [r]
  double norm2 = 0;      // |Delta W|_F^2
  double lost2 = 0;      // of it, what no diagonal of the other basis has
};

// `from` and `to` of one tensor, in one form.
Rebased rebased(const Factor& from, const Factor& to, std::span<const float> z);

}  // namespace svfleet
