// Start here: a weight's one-sided decomposition, its certificate, and how it is made.
//
// Never U and V together: Q has the singular directions of one side, the eigenvectors of its Gram
// matrix, which is all that W' = W + W Q diag(z-1) Q^T (right) or W + Q diag(z-1) Q^T W (left)
// needs.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "svd/certificate.h"
#include "svd/target.h"

namespace svfleet {

struct Factor {
  Target target;
  at::Tensor q;               // [basis_rows, r]; float32 or bfloat16; column i belongs to sigma[i]
  std::vector<double> sigma;  // [r], descending
  Certificate certificate;
  std::string source_hash;  // of the tensor it was made from
  std::string machine;      // hash of the identity that made it; empty in files of before
};

// Float64 Gram matrix and symmetric eigensolver on the calling thread, by OpenBLAS, or on the GPU
// where `weight` is on one, by libtorch; the factor is in host memory either way. Eigenvalues
// descending, the largest entry of each eigenvector positive. `weight` [m, n] of any float type.
// `storage` is kFloat or kBFloat16. Throws Error(kExitUser) naming the tensor when it holds a NaN
// or infinity. A weight that nobody else holds is given up as soon as it can be.
Factor decompose(const Target& target, at::Tensor weight, at::ScalarType storage);
// Memory that it takes at most, its weight in float64 included.
int64_t decompose_bytes(const Target& target);

}  // namespace svfleet
