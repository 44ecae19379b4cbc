// product_weights.h by this room's own kernels, in panels of outputs.
#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/kernels/instruction_set.h"
#include "worker/kernels/panel_kernel.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

constexpr int64_t kRowBlock = 240;  // rows whose inputs are wide at one time: of all kernels' rows

template <class T>
void multiply_plain(const Wide<T>* x, int rows, int64_t inputs, const T* panel, Wide<T>* sums) {
  for (int r = 0; r < rows; ++r) {
    Wide<T> sum[kPanelWidth] = {};
    for (int64_t k = 0; k < inputs; ++k) {
      for (int c = 0; c < kPanelWidth; ++c)
        sum[c] = std::fma(x[r * inputs + k], widen(panel[k * kPanelWidth + c]), sum[c]);
    }
    std::copy_n(sum, kPanelWidth, sums + r * kPanelWidth);
  }
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
    if (wide_result)
      multiply_to<Wide<T>>(static_cast<const T*>(x), rows, static_cast<Wide<T>*>(y), extra);
    else
      multiply_to<T>(static_cast<const T*>(x), rows, static_cast<T*>(y), extra);
  }

  void unpack(void* matrix) const override {
    T* to = static_cast<T*>(matrix);
    each_entry([&](size_t given, size_t packed) { to[given] = packed_[packed]; });
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

  template <class Y>
  void multiply_to(const T* x, int64_t rows, Y* y, const ProductExtra& extra) const {
    const auto* add = static_cast<const Wide<T>*>(extra.add);
    const auto* bias = static_cast<const T*>(extra.bias);
    const int64_t inputs = shape().inputs, outputs = shape().outputs;
    const int threads = shape().threads;
    std::vector<Wide<T>> wide(size_t(std::min(rows, kRowBlock) * inputs));
    for (int64_t first = 0; first < rows; first += kRowBlock) {
      const int64_t count = std::min(kRowBlock, rows - first);
      for (int64_t i = 0; i < count * inputs; ++i) wide[size_t(i)] = widen(x[first * inputs + i]);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
      for (int64_t panel = 0; panel < panels_; ++panel) {
        multiply_panel(panel, wide.data(), count, y + first * outputs,
                       add ? add + first * outputs : nullptr, bias);
      }
    }
  }

  template <class Y>
  void multiply_panel(int64_t panel, const Wide<T>* x, int64_t rows, Y* y, const Wide<T>* add,
                      const T* bias) const {
    constexpr int kMostRows = 12;
    const PanelKernel<T> kernel = panel_kernel<T>();
    const int64_t inputs = shape().inputs, outputs = shape().outputs;
    const int64_t begin = panel * kPanelWidth;
    const int64_t width = std::min<int64_t>(kPanelWidth, outputs - begin);
    Wide<T> sums[kMostRows * kPanelWidth];
    for (int64_t row = 0; row < rows; row += kernel.most_rows) {
      const int count = int(std::min<int64_t>(kernel.most_rows, rows - row));
      kernel.multiply(x + row * inputs, count, inputs,
                      packed_.data() + panel * inputs * kPanelWidth, sums);
      for (int r = 0; r < count; ++r) {
        const int64_t place = (row + r) * outputs + begin;
        for (int64_t c = 0; c < width; ++c) {
          Wide<T> sum = sums[r * kPanelWidth + c];
          if (bias) sum += widen(bias[begin + c]);
          if (add) sum += add[place + c];
          y[place + c] = narrow<Y>(sum);
        }
      }
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
