// Applying z: three ways, one meaning. d = z - 1 throughout, so that d = 0 is the base model.
#pragma once

#include <ATen/core/Tensor.h>

#include "svd/target.h"

namespace svfleet {

// merged <- W + W Q diag(d) Q^T (right) or W + Q diag(d) Q^T W (left), rounded once to W's type.
// W, merged: [m, n] of the same type; q: [r, r] of any float type; d: [r] float32 or float64.
// All-zero d gives W bit for bit. The product Q diag(d) Q^T is made in float32 (float64 for a
// float64 W); a bfloat16 W multiplies it in bfloat16 with float32 sums: the change is then good to
// 3e-3 of itself, below what rounding W' to bfloat16 costs.
void merge(Form form, const at::Tensor& weight, const at::Tensor& q, const at::Tensor& d,
           at::Tensor& merged);

// Q (d o Q^T x): what z adds to a product's input on the right, or to its output before the bias on
// the left, so that W' is never built. x: [T, r]; q: [r, r] of x's type; d: [r], or [T, r] when
// each row has its own z. Rounded to x's type. Differentiable in x and d; keeps [T, r] for the
// backward pass.
at::Tensor scaled_in_basis(const at::Tensor& x, const at::Tensor& q, const at::Tensor& d);

// y [T, m] = W'x + bias, with the merged weight in the forward pass and the closed form in the
// backward pass. x: [T, n]; d: [r]. Undivided, so it holds for every z, zero and negative included:
//   right: dz_i = sum_t (Q^T x_t)_i (Q^T W^T G_t)_i,   left: dz_i = sum_t (Q^T G_t)_i (Q^T W x_t)_i
// No weight gradient, and W'^T is never needed: dX = W^T G + Q (d o Q^T W^T G), or its left twin.
at::Tensor merged_linear_closed_form(Form form, const at::Tensor& x, const at::Tensor& weight,
                                     const at::Tensor& merged, const at::Tensor& bias,
                                     const at::Tensor& q, const at::Tensor& d);

}  // namespace svfleet
