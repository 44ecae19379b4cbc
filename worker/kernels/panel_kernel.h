// Sums of a few rows with one panel of a matrix, in plain C++ and in vector instructions.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

constexpr int kPanelWidth = 32;  // columns of a panel: [inputs, kPanelWidth], zeros past the matrix

// sums[r][c] (kPanelWidth apart) = the fused sum, in order of k from 0 on, of x[r][k] panel[k][c],
// going on from what is there if `more`. x: [rows, inputs], wide, its rows `stride` apart; 1 <=
// rows <= most_rows. All have the same bits, and so has a sum made at once or in parts.
template <class T>
struct PanelKernel {
  int most_rows;
  void (*multiply)(const Wide<T>* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                   Wide<T>* sums, bool more);
};

template <class T>
PanelKernel<T> plain_panel_kernel();  // bf16, float, double
template <class T>
PanelKernel<T> avx2_panel_kernel();  // bf16, float
template <class T>
PanelKernel<T> avx512_panel_kernel();  // bf16, float

}  // namespace svfleet
