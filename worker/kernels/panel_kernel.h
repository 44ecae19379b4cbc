// Sums of a few rows with one panel of a matrix, in plain C++ and in vector instructions.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

constexpr int kPanelWidth = 32;  // columns of a panel: [inputs, kPanelWidth], zeros past the matrix

// Where an input of a column lies in a panel of groups of so many inputs.
template <int kGroup>
constexpr int64_t panel_place(int64_t k, int64_t column) {
  return k / kGroup * kGroup * kPanelWidth + column * kGroup + k % kGroup;
}

// A panel's part of a matrix: entry (k, column) is at k * by_input + column * by_output, of which
// one is 1.
struct PanelPlace {
  int64_t inputs, width, by_input, by_output;
};

// Where the sums of a panel go: y = round((sum + bias) + add), of `width` columns.
template <class T, class Y>
struct PanelResult {
  const T* bias;  // [width], or nullptr
  const Wide<T>* add;
  Y* y;  // as add, [rows, width], its rows `stride` apart
  int64_t stride, width;
};

// Memory that is asked for meanwhile, because it is read next: `step` bytes further on with each
// group of inputs.
struct Ahead {
  const void* from = nullptr;
  int64_t step = 0;
};

// sums[r][c] (kPanelWidth apart) = the sum, in order of k from 0 on, of x[r][k] panel[k][c], going
// on from what is there if `more`. x: [rows, inputs], of type X, its rows `stride` apart;
// 1 <= rows <= most_rows. A sum made at once and one in parts have the same bits.
//
// Of wide x the sums are fused, and all kernels have the same bits. X = bf16 is for instructions
// that multiply pairs: `inputs` is even, the panel is [inputs / 2][kPanelWidth][2], and how a pair
// is added up is the processor's.
//
// turn: to[c][r] = from[r][c] of a tile, kPanelWidth wide and high, both as in a panel.
template <class T, class X = Wide<T>>
struct PanelKernel {
  int most_rows;
  void (*multiply)(const X* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                   Wide<T>* sums, bool more, Ahead ahead);
  void (*turn)(const T* from, T* to);
  // Between a matrix and a panel, whose entries past the matrix are left as they are.
  void (*pack)(const T* matrix, const PanelPlace& at, T* panel);
  void (*unpack)(const T* panel, const PanelPlace& at, T* matrix);
  // Of the rows from `first` on, whose sums are whole.
  void (*finish)(const Wide<T>* sums, int64_t first, int rows, const PanelResult<T, T>& to);
  void (*finish_wide)(const Wide<T>* sums, int64_t first, int rows,
                      const PanelResult<T, Wide<T>>& to);
};

template <class T>
PanelKernel<T> plain_panel_kernel();  // bf16, float, double
template <class T>
PanelKernel<T> avx2_panel_kernel();  // bf16, float
template <class T>
PanelKernel<T> avx512_panel_kernel();         // bf16, float
PanelKernel<bf16, bf16> pair_panel_kernel();  // where has_pair_kernels()

}  // namespace svfleet
