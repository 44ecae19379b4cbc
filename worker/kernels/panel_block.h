// The inner loop of a panel's product over a vector type V, for files of different instructions.
#pragma once

#include <cstdint>

#include "worker/kernels/panel_kernel.h"

namespace svfleet {
namespace {

// R rows and C vectors of columns, whose sums stay in registers.
template <class V, int R, int C, class T>
inline void multiply_block(const float* x, int64_t stride, int64_t inputs, const T* panel,
                           float* sums, bool more) {
  V sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c)
      sum[r][c] = more ? V::load(sums + r * kPanelWidth + c * V::kWidth) : V::zero();
  }
  for (int64_t k = 0; k < inputs; ++k, panel += kPanelWidth) {
    V w[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) w[c] = V::load(panel + c * V::kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V xr = V::broadcast(x + r * stride + k);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) sum[r][c] = V::fma(xr, w[c], sum[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) V::store(sums + r * kPanelWidth + c * V::kWidth, sum[r][c]);
  }
}

// As many rows as there are, from kMost registers of sums down.
template <class V, int kMost, int R, class T>
inline void multiply_rows(const float* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                          float* sums, bool more) {
  if constexpr (R > 1) {
    if (rows < R) return multiply_rows<V, kMost, R - 1>(x, rows, stride, inputs, panel, sums, more);
  }
  constexpr int kAll = kPanelWidth / V::kWidth;
  constexpr int kColumns = R * kAll <= kMost ? kAll : kAll / 2;
  for (int c = 0; c < kAll; c += kColumns)
    multiply_block<V, R, kColumns>(x, stride, inputs, panel + c * V::kWidth, sums + c * V::kWidth,
                                   more);
}

}  // namespace
}  // namespace svfleet
