// What a layer does between its products: norm, rotary, gate, residual, and their gradients, on the
// CPU by worker/kernels, on a GPU by libtorch. Each row's bits are its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "worker/kernels/activation.h"

namespace svfleet {

// "wide": float64 for float64, float32 for the other types; changes and gradients are.

// x * rsqrt(mean x^2 + epsilon), rounded, times `weight`, rounded; with a wide `weight` rounded
// once [rows, width]. `inverse`, where given: the inverse root mean squares [rows], wide.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse = nullptr);
// d_x += the gradient at x of what has the gradient d_out; both wide [rows, width].
void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x);

// Cosine and sine of each row's angles [rows, what turns of a head / 2], wide.
struct Angles {
  at::Tensor cos, sin;
};
// Both times `magnitude`. Made on the host in float64, so that their bits do not depend on the
// device; on a GPU once.
Angles angles(std::span<const int64_t> positions, const std::vector<double>& frequencies,
              double magnitude, at::ScalarType wide, at::Device device);
// In place: halves of what turns of each head, from its first number on, are turned against each
// other (Hugging Face's layout), rounded once. x [rows, heads * head_dim].
void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim);
void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim);  // wide

// act(gate), rounded, times up, rounded.
at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up,
                        Activation act = Activation::kSilu);
void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up,
                           Activation act = Activation::kSilu);  // wide

// x = cap tanh(x / cap) in place, wide; `slope`, where given: its derivative there.
void soft_cap(const at::Tensor& x, double cap, at::Tensor* slope = nullptr);

// h += y scale, the product rounded, then the sum.
void add_to(const at::Tensor& h, const at::Tensor& y, double scale = 1);
at::Tensor rounded(const at::Tensor& wide, at::ScalarType type);  // to the nearest

// x + change, rounded to x's type: for bfloat16 up or down by chance in proportion, by the bits of
// each row's key and the column, so that small changes arrive on average and none leaves x as it
// is. change [rows, width] wide; keys [rows] int64 on the host.
at::Tensor add_keyed(const at::Tensor& x, const at::Tensor& change, const at::Tensor& keys);

// x [rows, r] wide times d [r], or each row's own of d [entries, r] by `entry_of` [rows] int32;
// rounded to `type`.
at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& d, const at::Tensor& entry_of,
                      at::ScalarType type);
// sums [r] (float64, on the host) += sum of a o b over rows [from, to), in their order; a, b wide.
void add_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to, double* sums);

// Row numbers and labels.
at::Tensor index_tensor(const std::vector<int64_t>& values, at::Device device);

}  // namespace svfleet
