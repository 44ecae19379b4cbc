// Kernels for NVIDIA GPUs: what a layer does between its products, and attention over pages. Each
// row's bits are its own, whatever rows stand beside it: sums run in an order that depends on the
// row's own length alone, and nothing is added by whoever comes first. T is bf16 or float, and all
// else that is rounded is float32. All pointers are of the device's memory.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"
#include "worker/kernels/pages.h"

namespace svfleet::cuda {

using Stream = void*;  // a cudaStream_t

// x * rsqrt(mean x^2 + epsilon), rounded, times `weight`, rounded [rows, width]; `inverse` [rows]
// may be null.
template <class T>
void rms_norm(const T* x, const T* weight, int64_t rows, int64_t width, double epsilon, T* out,
              float* inverse, Stream stream);
// d_x += its gradient.
template <class T>
void rms_norm_gradient(const T* x, const T* weight, const float* inverse, const float* d_out,
                       int64_t rows, int64_t width, float* d_x, Stream stream);

// In place, x [rows, heads, head_dim] by cos and sin [rows, head_dim / 2].
template <class T>
void rotate(T* x, const float* cos, const float* sin, int64_t rows, int heads, int head_dim,
            Stream stream);
void rotate_gradient(float* d, const float* cos, const float* sin, int64_t rows, int heads,
                     int head_dim, Stream stream);

// silu(gate), rounded, times up, rounded [count].
template <class T>
void gate_product(const T* gate, const T* up, int64_t count, T* out, Stream stream);
template <class T>
void gate_product_gradient(const T* gate, const T* up, const float* d_out, int64_t count,
                           float* d_gate, float* d_up, Stream stream);

// x + change, up or down by chance, as worker/kernels/elementwise.h says [rows, width].
template <class T>
void add_keyed(const T* x, const float* change, const uint64_t* keys, int64_t rows, int64_t width,
               T* out, Stream stream);

// x [rows, r] times d [r], or each row's own of d [entries, r]; `entry_of` may be null.
template <class T>
void scale_rows(const float* x, const float* d, const int* entry_of, int64_t rows, int64_t r,
                T* out, Stream stream);

// Range i of rows is [from[i], to[i]): sums[i * stride + c] += sum of a o b of column c over its
// rows, in float64 and in their order; a, b [rows, r].
void add_products(const float* a, const float* b, const int64_t* from, const int64_t* to,
                  int64_t ranges, int64_t r, double* sums, int64_t stride, Stream stream);

// Where the rows of a pass find their sequences' keys and values: token j of the sequence of run i
// is slot table[i * most + j / 32] * 32 + j % 32.
struct PassView {
  int64_t rows;
  const int64_t* positions;  // [rows]
  const int* run_of;         // [rows]: rows of one run follow each other, and have one sequence
  const int* table;          // [runs, most]
  int64_t most;
};
// One layer's: [slots, kv_heads, head_dim].
template <class T>
struct Cache {
  T *keys, *values;
};

template <class T>
void store(const AttentionShape& shape, const PassView& pass, const T* k, const T* v,
           const Cache<T>& cache, Stream stream);

// Pages that begin as others do. None reads what another of them writes.
struct Copies {
  int64_t count;
  const int *from, *to, *slots;  // [count], equal `from` beside each other
};
template <class T>
void copy(const AttentionShape& shape, const Copies& copies, const Cache<T>& cache, Stream stream);
// The other way: adds those of `to` to `from`, the last first.
void add_copies(const AttentionShape& shape, const Copies& copies, const Cache<float>& gradient,
                Stream stream);

// out [rows, heads, head_dim]; log_sum [rows, heads] may be null.
template <class T>
void attend(const AttentionShape& shape, const PassView& pass, const T* q, const Cache<T>& cache,
            T* out, float* log_sum, Stream stream);
// d_q [rows, heads, head_dim], and `along` [rows, heads], which key_value_gradient reads.
template <class T>
void query_gradient(const AttentionShape& shape, const PassView& pass, const T* q,
                    const Cache<T>& cache, const T* out, const float* log_sum, const T* d_out,
                    float* d_q, float* along, Stream stream);
// Which rows see which page: those of its runs, [first[i], first[i + 1]) of `runs`.
struct Readers {
  int64_t pages;
  const int *page, *place;  // [pages]: its number, and which of its sequence it is
  const int* first;         // [pages + 1]
  const int* runs;          // of each page, in order
  const int64_t* run_rows;  // [runs + 1]: where the rows of each begin
};
// All slots of those pages, their rows in their order.
template <class T>
void key_value_gradient(const AttentionShape& shape, const PassView& pass, const Readers& readers,
                        const T* q, const Cache<T>& cache, const float* log_sum, const T* d_out,
                        const float* along, const Cache<float>& gradient, Stream stream);
// Each row's own slot of it [rows, kv_heads, head_dim].
void load_gradient(const AttentionShape& shape, const PassView& pass, const Cache<float>& gradient,
                   float* d_k, float* d_v, Stream stream);

// Rows of logits [rows, vocabulary], float32; a temperature of 0 or less divides by nothing, and
// draws the largest. out [3, draws] of draw i, from row rows[i] by uniforms[i]: token,
// log-probability, entropy.
void draw(const float* logits, int64_t vocabulary, const int64_t* rows, const double* uniforms,
          int64_t draws, double temperature, double* out, Stream stream);
// out [rows]: of each row's label, to the bit what draw says of it.
void log_probs(const float* logits, int64_t rows, int64_t vocabulary, const int64_t* labels,
               double temperature, float* out, Stream stream);
// The gradient as worker/kernels/vocabulary.h says, and log_probs [rows]; `base` and kl_weights may
// be null; the KL over the whole vocabulary where `full`, else of the label alone.
template <class T>
void loss_gradient(const float* logits, const float* base, int64_t rows, int64_t vocabulary,
                   const int64_t* labels, const double* weights, const double* kl_weights,
                   bool full, double temperature, T* d_logits, float* log_probs, Stream stream);

}  // namespace svfleet::cuda
