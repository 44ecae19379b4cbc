// How good a basis is: that the eigensolver's answer is one, and what rounding it for storage
// costs.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace svfleet {

// Q is as computed, Q~ = Q + E as stored, A = W (right) or W^T (left), Lambda = diag(sigma^2).
// From X = Q~^T E alone, in which nothing cancels, and of a thin Q from what of E is not in its
// span; up to the square of the rounding, that is 1e-8 (float32) or 2e-3 (bfloat16) of each figure.
struct Certificate {
  double orthogonality = 0;    // |Q~^T Q~ - I|_F / sqrt(r)
  double off_diagonal = 0;     // of (A Q~)^T (A Q~), relative to its norm
  double predicted_error = 0;  // |W' - exact W'|_F / |exact W'|_F for a fixed z in 1 +- 0.1
};

// z - 1 of the predicted error: equidistributed in 1 +- 0.1 (golden-ratio sequence), so that the
// figure can be compared over matrices and machines.
double certified_move(int64_t i);

// |A^T A Q - Q Lambda|_F / |Lambda|_F and |Q^T Q - I|_F / sqrt(r), estimated from what they do to
// three keyed random vectors; within a factor of two but for one time in thousands, and never zero
// where they are not. Through the weight itself, not its Gram matrix.
struct BasisErrors {
  double residual = 0, orthogonality = 0;
};
// a [m, k], any strides; vectors [r, k], row i is q_i; values [r]: lambda. All float64, on one
// device.
BasisErrors basis_errors(const at::Tensor& a, const at::Tensor& vectors, const at::Tensor& values);

// An orthogonal but wrong basis would pass every later check. Error(kExitInternal) naming `name`
// where either is above 1e-11 (measured: 2e-15 to 4e-15).
void check_basis(const std::string& name, const at::Tensor& a, const at::Tensor& vectors,
                 const at::Tensor& values);

// vectors as above; stored [r, k] the same, rounded; values on the host. Where k > r, what is
// orthogonal to all vectors is taken to be in the null space of A.
Certificate certify(const at::Tensor& vectors, const at::Tensor& stored,
                    const std::vector<double>& values);

}  // namespace svfleet
