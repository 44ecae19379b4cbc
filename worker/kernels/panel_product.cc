// product_weights.h by this room's own kernels, in panels of outputs.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "worker/kernels/instruction_set.h"
#include "worker/kernels/panel_kernel.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

constexpr int64_t kRowBlock = 240;  // rows whose inputs are wide at one time: of all kernels' rows
constexpr int64_t kMostInputs = 2048;  // of a sum that is made at once; a longer one is in parts
constexpr int kMostRows = 12;          // of any kernel

template <class T>
void multiply_plain(const Wide<T>* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                    Wide<T>* sums, bool more) {
  for (int r = 0; r < rows; ++r) {
    Wide<T>* sum = sums + r * kPanelWidth;
    if (!more) std::fill_n(sum, kPanelWidth, Wide<T>(0));
    for (int64_t k = 0; k < inputs; ++k) {
      for (int c = 0; c < kPanelWidth; ++c)
        sum[c] = std::fma(x[r * stride + k], widen(panel[k * kPanelWidth + c]), sum[c]);
    }
  }
}

// to[c][r] = from[r][c], both kPanelWidth wide and high: eight entries a side at a time.
template <class T>
void turn_tile(const T* from, T* to) {
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t,
                                  std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  constexpr int kSide = 8;
  typedef Bits Eight __attribute__((vector_size(kSide * sizeof(Bits)), may_alias, aligned(2)));
  for (int r = 0; r < kPanelWidth; r += kSide)
    for (int c = 0; c < kPanelWidth; c += kSide) {
      Eight row[kSide], next[kSide];
      for (int i = 0; i < kSide; ++i)
        row[i] = *reinterpret_cast<const Eight*>(from + (r + i) * kPanelWidth + c);
      // Three shuffles of pairs four rows apart leave every entry in its column's row.
      for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < kSide / 2; ++i) {
          next[2 * i] = __builtin_shufflevector(row[i], row[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
          next[2 * i + 1] = __builtin_shufflevector(row[i], row[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        std::copy_n(next, kSide, row);
      }
      for (int i = 0; i < kSide; ++i)
        *reinterpret_cast<Eight*>(to + (c + i) * kPanelWidth + r) = row[i];
    }
}

// y = (sum + bias) + add, rounded, of a panel's outputs, `width` of them where it is the last.
template <class T, class Y>
void finish(const Wide<T>* sum, const T* bias, const Wide<T>* add, int64_t width, Y* y) {
  Wide<T> all[kPanelWidth];
  std::copy_n(sum, kPanelWidth, all);
  const auto finish = [&](int64_t count) {
    if (bias)
      for (int64_t c = 0; c < count; ++c) all[c] += widen(bias[c]);
    if (add)
      for (int64_t c = 0; c < count; ++c) all[c] += add[c];
    for (int64_t c = 0; c < count; ++c) y[c] = narrow<Y>(all[c]);
  };
  // Loops of a known length are made of vector instructions.
  width < kPanelWidth ? finish(width) : finish(kPanelWidth);
}

template <class T>
PanelKernel<T> panel_kernel() {
  if constexpr (sizeof(T) < sizeof(double)) {
    if (kernels() == Kernels::kAvx512) return avx512_panel_kernel<T>();
    if (kernels() == Kernels::kAvx2) return avx2_panel_kernel<T>();
  }
  return plain_panel_kernel<T>();
}

template <class T>
class PanelWeights : public ProductWeights {
 public:
  PanelWeights(const ProductShape& shape, const void* matrix)
      : ProductWeights(shape),
        panels_((shape.outputs + kPanelWidth - 1) / kPanelWidth),
        packed_(size_t(panels_ * shape.inputs * kPanelWidth)) {
    const T* from = static_cast<const T*>(matrix);
    each_entry([&](size_t given, size_t packed) { packed_[packed] = from[given]; });
  }

  void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                const ProductExtra& extra) const override {
    multiply_typed(Straight{this}, x, rows, y, wide_result, extra);
  }
  bool turns() const override { return true; }
  void multiply_turned(const void* x, int64_t rows, void* y, bool wide_result,
                       const ProductExtra& extra) const override {
    multiply_typed(Turned{this}, x, rows, y, wide_result, extra);
  }

  void unpack(void* matrix) const override {
    T* to = static_cast<T*>(matrix);
    each_entry([&](size_t given, size_t packed) { to[given] = packed_[packed]; });
  }

  void unpack_output(int64_t output, void* entries) const override {
    const T* column = panel(output / kPanelWidth) + output % kPanelWidth;
    for (int64_t k = 0; k < shape().inputs; ++k)
      static_cast<T*>(entries)[k] = column[k * kPanelWidth];
  }
  const void* data() const override { return packed_.data(); }
  size_t bytes() const override { return packed_.size() * sizeof(T); }
  std::string implementation() const override { return "panels"; }

 private:
  // f(place in the matrix as given, place in the panels)
  template <class F>
  void each_entry(F f) const {
    const int64_t inputs = shape().inputs, outputs = shape().outputs;
    const bool transposed = shape().order == WeightOrder::kOutputs;
    for (int64_t n = 0; n < outputs; ++n) {
      const int64_t column = n / kPanelWidth * inputs * kPanelWidth + n % kPanelWidth;
      for (int64_t k = 0; k < inputs; ++k)
        f(size_t(transposed ? n * inputs + k : k * outputs + n), size_t(column + k * kPanelWidth));
    }
  }

  const T* panel(int64_t n) const { return packed_.data() + n * shape().inputs * kPanelWidth; }

  // Where a product reads its panels: the matrix's own, or those of the matrix turned round, which
  // are made of tiles of all its own. tile: of panel n, the inputs from `first` on.
  struct Straight {
    const PanelWeights* weights;
    int64_t inputs() const { return weights->shape().inputs; }
    int64_t outputs() const { return weights->shape().outputs; }
    const T* tile(int64_t n, int64_t first, int64_t, std::vector<T>&) const {
      return weights->panel(n) + first * kPanelWidth;
    }
  };
  struct Turned {
    const PanelWeights* weights;
    int64_t inputs() const { return weights->shape().outputs; }
    int64_t outputs() const { return weights->shape().inputs; }
    const T* tile(int64_t n, int64_t first, int64_t count, std::vector<T>& room) const {
      constexpr int64_t kTile = kPanelWidth * kPanelWidth;
      const int64_t from = n * kPanelWidth, high = std::min<int64_t>(kPanelWidth, outputs() - from);
      room.resize(size_t((count + kPanelWidth - 1) / kPanelWidth * kTile));
      T edge[kTile] = {};
      for (int64_t done = 0; done < count; done += kPanelWidth) {
        const T* tile = weights->panel((first + done) / kPanelWidth) + from * kPanelWidth;
        if (high < kPanelWidth) {
          std::copy_n(tile, high * kPanelWidth, edge);
          tile = edge;
        }
        turn_tile(tile, room.data() + done * kPanelWidth);
      }
      return room.data();
    }
  };

  template <class Source>
  void multiply_typed(const Source& source, const void* x, int64_t rows, void* y, bool wide_result,
                      const ProductExtra& extra) const {
    const T* from = static_cast<const T*>(x);
    if (wide_result)
      multiply_to(source, from, rows, static_cast<Wide<T>*>(y), extra);
    else
      multiply_to(source, from, rows, static_cast<T*>(y), extra);
  }

  template <class Source, class Y>
  void multiply_to(const Source& source, const T* x, int64_t rows, Y* y,
                   const ProductExtra& extra) const {
    const auto* bias = static_cast<const T*>(extra.bias);
    const auto* add = static_cast<const Wide<T>*>(extra.add);
    const int64_t inputs = source.inputs(), outputs = source.outputs();
    const int64_t panels = (outputs + kPanelWidth - 1) / kPanelWidth;
    const int64_t block = std::min(rows, kRowBlock), part = std::min(inputs, kMostInputs);
    const int threads = shape().threads;
    std::vector<Wide<T>> wide(size_t(block * part));
    // Of a sum in parts: [panel][row][kPanelWidth].
    std::vector<Wide<T>> unfinished(size_t(part < inputs ? panels * block * kPanelWidth : 0));
    for (int64_t top = 0; top < rows; top += kRowBlock) {
      const int64_t count = std::min(kRowBlock, rows - top);
      for (int64_t first = 0; first < inputs; first += part) {
        const int64_t here = std::min(part, inputs - first);
        for (int64_t row = 0; row < count; ++row)
          for (int64_t k = 0; k < here; ++k)
            wide[size_t(row * here + k)] = widen(x[(top + row) * inputs + first + k]);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (int64_t n = 0; n < panels; ++n) {
          Wide<T>* sums = part < inputs ? &unfinished[size_t(n * count * kPanelWidth)] : nullptr;
          multiply_panel(source, n, wide.data(), count, first, here, sums,
                         [&](int64_t row, const Wide<T>* sum) {
                           const int64_t column = n * kPanelWidth,
                                         place = (top + row) * outputs + column;
                           finish(sum, bias ? bias + column : nullptr, add ? add + place : nullptr,
                                  outputs - column, y + place);
                         });
        }
      }
    }
  }

  // The inputs from `first` on of all rows with panel n; those whose sums are whole then are done.
  template <class Source, class Done>
  void multiply_panel(const Source& source, int64_t n, const Wide<T>* x, int64_t rows,
                      int64_t first, int64_t inputs, Wide<T>* unfinished, const Done& done) const {
    const PanelKernel<T> kernel = panel_kernel<T>();
    thread_local std::vector<T> room;
    const T* tile = source.tile(n, first, inputs, room);
    Wide<T> whole[kMostRows * kPanelWidth];
    for (int64_t row = 0; row < rows; row += kernel.most_rows) {
      const int count = int(std::min<int64_t>(kernel.most_rows, rows - row));
      Wide<T>* sums = unfinished ? unfinished + row * kPanelWidth : whole;
      kernel.multiply(x + row * inputs, count, inputs, inputs, tile, sums, first > 0);
      if (first + inputs < source.inputs()) continue;
      for (int r = 0; r < count; ++r) done(row + r, sums + r * kPanelWidth);
    }
  }

  int64_t panels_;
  std::vector<T> packed_;
};

}  // namespace

template <>
PanelKernel<bf16> plain_panel_kernel() {
  return {1, multiply_plain<bf16>};
}
template <>
PanelKernel<float> plain_panel_kernel() {
  return {1, multiply_plain<float>};
}
template <>
PanelKernel<double> plain_panel_kernel() {
  return {1, multiply_plain<double>};
}

std::unique_ptr<ProductWeights> pack_in_panels(const ProductShape& shape, const void* matrix) {
  switch (shape.type) {
    case NumberType::kBf16:
      return std::make_unique<PanelWeights<bf16>>(shape, matrix);
    case NumberType::kFloat:
      return std::make_unique<PanelWeights<float>>(shape, matrix);
    case NumberType::kDouble:
      return std::make_unique<PanelWeights<double>>(shape, matrix);
  }
  return nullptr;
}

}  // namespace svfleet
