// The functions of elementwise.h on one thread, for each instruction set.
#pragma once

#include <cstdint>

#include "worker/kernels/elementwise.h"

namespace svfleet {

template <class T>
struct ElementwiseKernels {
  using W = Wide<T>;
  // With weights of V.
  template <class V>
  struct Norm {
    void (*forward)(const T* x, const V* weight, int64_t rows, int64_t width, double epsilon,
                    T* out, W* inverse_rms);
    void (*gradient)(const T* x, const V* weight, const W* inverse_rms, const W* d_out,
                     int64_t rows, int64_t width, W* d_x);
  };
  struct Gate {
    void (*product)(const T* gate, const T* up, int64_t count, T* out);
    void (*gradient)(const T* gate, const T* up, const W* d_out, int64_t count, W* d_gate, W* d_up);
  };
  Norm<T> norm;
  Norm<W> wide_norm;
  void (*rotate)(T* x, const W* cos, const W* sin, int64_t rows, const RotaryShape& shape);
  void (*rotate_gradient)(W* d, const W* cos, const W* sin, int64_t rows, const RotaryShape& shape);
  Gate silu, gelu_tanh;
  void (*add_rows)(T* h, const T* y, int64_t count);
  void (*add_scaled)(T* h, const T* y, W scale, int64_t count);
  void (*soft_cap)(W* x, W cap, int64_t count, W* slope);
  void (*round_to)(const W* x, int64_t count, T* out);
  void (*add_keyed)(const T* x, const W* change, const uint64_t* keys, int64_t rows, int64_t width,
                    T* out);
  void (*scale_rows)(const W* x, const W* d, const int* scale_of, int64_t rows, int64_t r, T* out);
  // Columns 0 to count of matrices that are `width` wide.
  void (*add_products)(const W* a, const W* b, int64_t rows, int64_t width, int64_t count,
                       double* sums);
};

template <class T>
ElementwiseKernels<T> elementwise_plain();  // bf16, float, double
template <class T>
ElementwiseKernels<T> elementwise_avx2();  // bf16, float
template <class T>
ElementwiseKernels<T> elementwise_avx512();  // bf16, float

}  // namespace svfleet
