// The operations of worker/model/operations.h and attention in libtorch's own, for a GPU; on CPU
// tensors, too, where they are what the kernels are tested against.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "worker/model/operations.h"

namespace svfleet::gpu {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse);
void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x);
void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim);
void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim);
at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up);
void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up);
at::Tensor add_keyed(const at::Tensor& x, const at::Tensor& change, const at::Tensor& keys);
at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& d, const at::Tensor& entry_of,
                      at::ScalarType type);
void add_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to, double* sums);

// Queries [n, heads, head_dim], of which the first sees `first` keys and each next one more; keys
// and values [at least first + n - 1, kv_heads, head_dim]. Returns [n, heads, head_dim], and the
// logs of the sums of exponentials [n, heads], wide.
struct Attended {
  at::Tensor out, log_sum;
};
Attended attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t first,
                double scale);
// Its gradient: d_q, d_k and d_v, wide.
struct AttendedGradient {
  at::Tensor d_q, d_k, d_v;
};
AttendedGradient attend_gradient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const Attended& seen, const at::Tensor& d_out, int64_t first,
                                 double scale);
// One query a row [rows, heads, head_dim] over keys [rows, most, kv_heads, head_dim], of which row
// i sees the first `count` [rows].
at::Tensor attend_each(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& count, double scale);

}  // namespace svfleet::gpu
