// What the cores besides the diagonal one change of a product y = W x + bias, and what their
// gradients need of it. Changes are wide, and are added before the only rounding.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/basis.h"
#include "worker/model/weights.h"

namespace svfleet {

// The coefficients of one target: those of one entry, or of several with each row's entry.
struct RowCoefficients {
  at::Tensor d;         // less at rest: [length], or [entries, length]; wide
  at::Tensor entry_of;  // [rows] int32, of several
};

// What dL/dz of a group of rows is made of: at `offset` of a target's own, the sum over rows of
// a_i b_i, or of all a_i b_j where `outer`.
struct RowSum {
  at::Tensor a, b;  // [rows, ...], wide
  bool outer = false;
  int64_t offset = 0;
};

// D [rows, inputs], wide, so that W (x + D) is what the core makes of W x; undefined where it
// changes the output.
at::Tensor core_input_change(const Basis& basis, size_t t, const at::Tensor& x,
                             const RowCoefficients& c);
// The output of a core that changes that, rounded.
at::Tensor core_output(const Basis& basis, size_t t, const Linear& linear, const at::Tensor& x,
                       const RowCoefficients& c);

// d_x, where it is wanted, and the sums, of what has the gradient g [rows, outputs] at y.
struct CoreBackward {
  at::Tensor d_x;
  std::vector<RowSum> sums;
};
CoreBackward core_backward(const Basis& basis, size_t t, const Linear& linear, const at::Tensor& x,
                           const at::Tensor& g, const RowCoefficients& c, bool d_x_wanted);

// W' - W [m, n], wide, of one entry's d [length]; undefined where W stays.
at::Tensor core_weight_change(const Basis& basis, size_t t, const Matrix& weight,
                              const at::Tensor& plain, const at::Tensor& d);
// What is added to the output besides W' x + bias: [outputs], wide, or undefined.
at::Tensor core_bias_change(const Basis& basis, size_t t, const Linear& linear,
                            const at::Tensor& d);
// Whether the core needs W x of the base, also where W' is merged.
bool reads_base_product(const Basis& basis, size_t t);

}  // namespace svfleet
