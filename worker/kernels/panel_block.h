// The inner loops of a panel's product over a vector type V, for files of different instructions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "worker/kernels/panel_kernel.h"

namespace svfleet {
namespace {

// R rows and C vectors of columns, whose sums stay in registers; V::kGroup inputs at a time.
template <class V, int R, int C, class T, class X>
inline void multiply_block(const X* x, int64_t stride, int64_t inputs, const T* panel, float* sums,
                           bool more, Ahead ahead) {
  V sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c)
      sum[r][c] = more ? V::load(sums + r * kPanelWidth + c * V::kWidth) : V::zero();
  }
  const auto* next = static_cast<const std::byte*>(ahead.from);
  for (int64_t k = 0; k < inputs; k += V::kGroup, panel += kPanelWidth * V::kGroup) {
    __builtin_prefetch(next, 0, 2);
    next += ahead.step;
    V w[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) w[c] = V::load(panel + c * V::kWidth * V::kGroup);
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
template <class V, int kMost, int R, class T, class X>
inline void multiply_rows(const X* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                          float* sums, bool more, Ahead ahead) {
  if constexpr (R > 1) {
    if (rows < R)
      return multiply_rows<V, kMost, R - 1>(x, rows, stride, inputs, panel, sums, more, ahead);
  }
  constexpr int kAll = kPanelWidth / V::kWidth;
  constexpr int kColumns = R * kAll <= kMost ? kAll : kAll / 2;
  for (int c = 0; c < kAll; c += kColumns)
    multiply_block<V, R, kColumns>(x, stride, inputs, panel + c * V::kWidth * V::kGroup,
                                   sums + c * V::kWidth, more, ahead);
}

// to[c][r] = from[r][c] of kHigh rows of kWide units, rows `stride` bytes apart: eight a side at a
// time.
template <class Unit, int kHigh, int kWide>
inline void turn_block(const void* from, int64_t stride, void* to, int64_t to_stride) {
  constexpr int kEight = 8;
  typedef Unit Eight __attribute__((vector_size(kEight * sizeof(Unit)), may_alias, aligned(2)));
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  constexpr int64_t kUnit = sizeof(Unit);
  for (int r = 0; r < kHigh; r += kEight)
    for (int c = 0; c < kWide; c += kEight) {
      Eight row[kEight], next[kEight];
      for (int i = 0; i < kEight; ++i)
        row[i] = *reinterpret_cast<const Eight*>(source + (r + i) * stride + c * kUnit);
      // Three shuffles of pairs four rows apart leave every entry in its column's row.
      for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < kEight / 2; ++i) {
          next[2 * i] = __builtin_shufflevector(row[i], row[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
          next[2 * i + 1] = __builtin_shufflevector(row[i], row[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        std::copy_n(next, kEight, row);
      }
      for (int i = 0; i < kEight; ++i)
        *reinterpret_cast<Eight*>(target + (c + i) * to_stride + r * kUnit) = row[i];
    }
}

template <size_t kBytes>
using UnitOf =
    std::conditional_t<kBytes == 2, uint16_t, std::conditional_t<kBytes == 4, uint32_t, uint64_t>>;

// PanelKernel::turn of a panel of single inputs.
template <class T>
void turn_tile(const T* from, T* to) {
  constexpr int64_t kRow = kPanelWidth * sizeof(T);
  turn_block<UnitOf<sizeof(T)>, kPanelWidth, kPanelWidth>(from, kRow, to, kRow);
}

// PanelKernel::pack, and its inverse where T is the matrix's and U the panel's that is const: whole
// groups of inputs are turned or woven at once, what is left one by one.
template <int kGroup, bool kUnpack, class T, class U>
inline void copy_panel(T* matrix, const PanelPlace& at, U* panel) {
  constexpr int64_t kTile = kPanelWidth, kEntry = sizeof(T), kRow = kPanelWidth * kGroup * kEntry;
  using Unit = UnitOf<kGroup * sizeof(T)>;
  const auto one = [&](int64_t k, int64_t c) {
    T& given = matrix[k * at.by_input + c * at.by_output];
    U& packed = panel[panel_place<kGroup>(k, c)];
    if constexpr (kUnpack)
      given = packed;
    else
      packed = given;
  };
  int64_t k = 0;
  if (at.width == kPanelWidth && at.by_input == 1)
    for (; k + kTile <= at.inputs; k += kTile) {
      if constexpr (kUnpack)
        turn_block<Unit, kTile / kGroup, kPanelWidth>(panel + k * kPanelWidth, kRow, matrix + k,
                                                      at.by_output * kEntry);
      else
        turn_block<Unit, kPanelWidth, kTile / kGroup>(matrix + k, at.by_output * kEntry,
                                                      panel + k * kPanelWidth, kRow);
    }
  else if (at.width == kPanelWidth && at.by_output == 1)
    for (; k + kGroup <= at.inputs; k += kGroup) {
      // Through memory of their own, which no other is: loops over it are vector instructions.
      std::remove_const_t<T> woven[kGroup][kPanelWidth];
      U* group = panel + k * kPanelWidth;
      for (int g = 0; g < kGroup; ++g) {
        T* row = matrix + (k + g) * at.by_input;
        if constexpr (kUnpack) {
          for (int c = 0; c < kPanelWidth; ++c) woven[g][c] = group[c * kGroup + g];
          std::copy_n(woven[g], kPanelWidth, row);
        } else {
          std::copy_n(row, kPanelWidth, woven[g]);
        }
      }
      if constexpr (!kUnpack)
        for (int c = 0; c < kPanelWidth; ++c)
          for (int g = 0; g < kGroup; ++g) group[c * kGroup + g] = woven[g][c];
    }
  for (; k < at.inputs; ++k)
    for (int64_t c = 0; c < at.width; ++c) one(k, c);
}

template <class T, int kGroup>
void pack_panel(const T* matrix, const PanelPlace& at, T* panel) {
  copy_panel<kGroup, false>(matrix, at, panel);
}
template <class T, int kGroup>
void unpack_panel(const T* panel, const PanelPlace& at, T* matrix) {
  copy_panel<kGroup, true>(matrix, at, panel);
}

// PanelKernel::finish and finish_wide.
template <class T, class Y>
void finish_rows(const Wide<T>* sums, int64_t first, int rows, const PanelResult<T, Y>& to) {
  for (int r = 0; r < rows; ++r) {
    Wide<T> all[kPanelWidth];
    std::copy_n(sums + r * kPanelWidth, kPanelWidth, all);
    const int64_t place = (first + r) * to.stride;
    const auto finish = [&](int64_t count) {
      if (to.bias)
        for (int64_t c = 0; c < count; ++c) all[c] += widen(to.bias[c]);
      if (to.add)
        for (int64_t c = 0; c < count; ++c) all[c] += to.add[place + c];
      for (int64_t c = 0; c < count; ++c) to.y[place + c] = narrow<Y>(all[c]);
    };
    // Loops of a known length are made of vector instructions.
    to.width < kPanelWidth ? finish(to.width) : finish(kPanelWidth);
  }
}

// A kernel of these parts; all else follows from the types.
template <class T, class X>
PanelKernel<T, X> panel_kernel_of(int most_rows, decltype(PanelKernel<T, X>::multiply) multiply,
                                  decltype(PanelKernel<T, X>::turn) turn = turn_tile<T>) {
  constexpr int kGroup = std::is_same_v<X, Wide<T>> ? 1 : 2;
  return {most_rows,
          multiply,
          turn,
          pack_panel<T, kGroup>,
          unpack_panel<T, kGroup>,
          finish_rows<T, T>,
          finish_rows<T, Wide<T>>};
}

}  // namespace
}  // namespace svfleet
