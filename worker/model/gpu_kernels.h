// worker/kernels/gpu.h on tensors: what worker/model/operations.h, matrix.h and key_values.h ask of
// a GPU. Of float64 models, which only tests have, libtorch's operations do the same
// (gpu_operations.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/kernels/pages.h"
#include "worker/model/gpu_pass.h"
#include "worker/model/head.h"
#include "worker/model/operations.h"

namespace svfleet::gpu {

// Whether these kernels compute with such numbers where they are.
bool has_kernels(const at::Tensor& x);

namespace kernels {

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
// sums [ranges, all] on the device: the columns from `offset` on get the sums of a o b.
void add_products(const at::Tensor& a, const at::Tensor& b, const at::Tensor& from,
                  const at::Tensor& to, const at::Tensor& sums, int64_t offset);

// x m^T or x m of m [outputs, inputs], as Matrix::product says; `add`, wide, may be undefined.
at::Tensor product(const at::Tensor& x, const at::Tensor& m, bool back, const at::Tensor& add,
                   const at::Tensor& bias, bool wide);

// keys and values: of one layer [slots, kv_heads, head_dim].
void store(const AttentionShape& shape, const GpuPass& pass, const at::Tensor& k,
           const at::Tensor& v, const at::Tensor& keys, const at::Tensor& values);
at::Tensor attend(const AttentionShape& shape, const GpuPass& pass, const at::Tensor& q,
                  const at::Tensor& keys, const at::Tensor& values, at::Tensor* log_sum);
struct AttentionGradient {
  at::Tensor d_q, d_k, d_v;
};
AttentionGradient attend_gradient(const AttentionShape& shape, const GpuPass& pass,
                                  const at::Tensor& q, const at::Tensor& keys,
                                  const at::Tensor& values, const at::Tensor& out,
                                  const at::Tensor& log_sum, const at::Tensor& d_out);

// Of logits [rows, vocabulary], float32, what Head says of them.
NextTokens draw(const at::Tensor& logits, const std::vector<int64_t>& rows,
                const std::vector<double>& uniforms, double temperature);
at::Tensor log_probs(const at::Tensor& logits, const std::vector<int64_t>& labels,
                     double temperature);
// Of the rows from `start` on of `tokens`; returns d_logits of `type`, and writes log_probs [rows].
at::Tensor loss_gradient(const at::Tensor& logits, const at::Tensor& base,
                         const TrainedTokens& tokens, int64_t start, KlLoss kl, double temperature,
                         at::ScalarType type, const at::Tensor& log_probs);

}  // namespace kernels
}  // namespace svfleet::gpu
