// product_weights.h by this room's own kernels, in panels of outputs.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "worker/kernels/instruction_set.h"
#include "worker/kernels/panel_block.h"
#include "worker/kernels/product_weights.h"
#include "worker/kernels/team.h"

namespace svfleet {
namespace {

constexpr int64_t kRowBlock = 240;     // rows that meet a panel at one time: of all kernels' rows
constexpr int64_t kMostInputs = 2048;  // of a sum that is made at once; a longer one is in parts
constexpr int kMostRows = 12;          // of any kernel
constexpr int64_t kSharesEach = 4;     // of a product, for each that works at it
constexpr int64_t kInTwo = 8;  // rows that meet a panel in two parts at least: the second finds it
                               // in the cache, while memory brings the next

template <class T>
void multiply_plain(const Wide<T>* x, int rows, int64_t stride, int64_t inputs, const T* panel,
                    Wide<T>* sums, bool more, Ahead) {
  for (int r = 0; r < rows; ++r) {
    Wide<T>* sum = sums + r * kPanelWidth;
    if (!more) std::fill_n(sum, kPanelWidth, Wide<T>(0));
    for (int64_t k = 0; k < inputs; ++k) {
      for (int c = 0; c < kPanelWidth; ++c)
        sum[c] = std::fma(x[r * stride + k], widen(panel[k * kPanelWidth + c]), sum[c]);
    }
  }
}

// X: what sums are made of, the wide type of single inputs or T of pairs.
template <class T, class X>
PanelKernel<T, X> panel_kernel() {
  if constexpr (!std::is_same_v<X, Wide<T>>) {
    return pair_panel_kernel();
  } else {
    if constexpr (sizeof(T) < sizeof(double)) {
      if (kernels() == Kernels::kAvx512) return avx512_panel_kernel<T>();
      if (kernels() == Kernels::kAvx2) return avx2_panel_kernel<T>();
    }
    return plain_panel_kernel<T>();
  }
}

template <class T, class X>
class PanelWeights : public ProductWeights {
 public:
  PanelWeights(const ProductShape& shape, const void* matrix)
      : ProductWeights(shape),
        panels_((shape.outputs + kPanelWidth - 1) / kPanelWidth),
        size_(size_t(panels_ * whole(shape.inputs) * kPanelWidth)),
        packed_(std::make_unique_for_overwrite<T[]>(size_)) {
    if (size_ != size_t(shape.inputs * shape.outputs)) std::fill_n(packed_.get(), size_, T{});
    const auto pack = panel_kernel<T, X>().pack;
    for (int64_t n = 0; n < panels_; ++n)
      pack(static_cast<const T*>(matrix) + part(n), place_of(n), panel(n));
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
    const auto unpack = panel_kernel<T, X>().unpack;
    for (int64_t n = 0; n < panels_; ++n)
      unpack(panel(n), place_of(n), static_cast<T*>(matrix) + part(n));
  }

  void unpack_output(int64_t output, void* entries) const override {
    const T* from = panel(output / kPanelWidth);
    for (int64_t k = 0; k < shape().inputs; ++k)
      static_cast<T*>(entries)[k] = from[panel_place<kGroup>(k, output % kPanelWidth)];
  }
  const void* data() const override { return packed_.get(); }
  size_t bytes() const override { return size_ * sizeof(T); }
  std::string implementation() const override {
    return kGroup == 1 ? "panels" : "panels:avx512_bf16";
  }

 private:
  // Rows that meet a panel at one time: as many bytes for either X.
  static constexpr int64_t kRowBlock = 240 * sizeof(Wide<T>) / sizeof(X);
  // Inputs that lie beside each other; a panel has whole groups, the last filled up with zeros.
  static constexpr int64_t kGroup = std::is_same_v<X, Wide<T>> ? 1 : 2;
  static constexpr int64_t whole(int64_t inputs) { return (inputs + kGroup - 1) / kGroup * kGroup; }

  bool by_outputs() const { return shape().order == WeightOrder::kOutputs; }
  // Where panel n begins in the matrix as given.
  int64_t part(int64_t n) const { return n * kPanelWidth * (by_outputs() ? shape().inputs : 1); }
  PanelPlace place_of(int64_t n) const {
    const int64_t width = std::min<int64_t>(kPanelWidth, shape().outputs - n * kPanelWidth);
    if (by_outputs()) return {shape().inputs, width, 1, shape().inputs};
    return {shape().inputs, width, shape().outputs, 1};
  }

  T* panel(int64_t n) const { return packed_.get() + n * whole(shape().inputs) * kPanelWidth; }

  // Where a product reads its panels: the matrix's own, or those of the matrix turned round, which
  // are made of tiles of all its own. tile: of panel n, the inputs from `first` on, made in room()
  // entries where it has to be made. ahead: while rows meet it in so many parts, the next panel is
  // fetched, so that memory is busy all the time.
  static constexpr int64_t kTile = kPanelWidth * kPanelWidth;
  struct Straight {
    const PanelWeights* weights;
    int64_t inputs() const { return weights->shape().inputs; }
    int64_t outputs() const { return weights->shape().outputs; }
    size_t room(int64_t) const { return 0; }
    Ahead ahead(int64_t n, int64_t first, int64_t times) const {
      if (times == 1) return {weights->packed_.get(), 0};  // the processor's own guess is as good
      return {weights->panel(n + 1) + first * kPanelWidth,
              kGroup * kPanelWidth * int64_t(sizeof(T)) / times};
    }
    const T* tile(int64_t n, int64_t first, int64_t, T*) const {
      return weights->panel(n) + first * kPanelWidth;
    }
  };
  struct Turned {
    const PanelWeights* weights;
    int64_t inputs() const { return weights->shape().outputs; }
    int64_t outputs() const { return weights->shape().inputs; }
    Ahead ahead(int64_t, int64_t, int64_t) const { return {weights->packed_.get(), 0}; }
    size_t room(int64_t inputs) const {
      return size_t((inputs + kPanelWidth - 1) / kPanelWidth * kTile);
    }
    const T* tile(int64_t n, int64_t first, int64_t count, T* room) const {
      const auto turn = panel_kernel<T, X>().turn;
      const int64_t from = n * kPanelWidth,
                    high = std::min<int64_t>(kPanelWidth, whole(outputs()) - from);
      T edge[kTile] = {};
      for (int64_t done = 0; done < count; done += kPanelWidth) {
        const T* tile = weights->panel((first + done) / kPanelWidth) + from * kPanelWidth;
        if (high < kPanelWidth) {
          std::copy_n(tile, high * kPanelWidth, edge);
          tile = edge;
        }
        turn(tile, room + done * kPanelWidth);
      }
      return room;
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

  // Rows of some inputs as the kernels read them.
  struct Rows {
    const X* first;
    int64_t count, stride, inputs;  // whole groups of inputs
  };

  // Where they lie, if they can be read there, or else in `room`.
  static Rows as_read(const T* x, int64_t rows, int64_t stride, int64_t inputs,
                      std::vector<X>& room) {
    if constexpr (std::is_same_v<T, X>)
      if (inputs == whole(inputs)) return {x, rows, stride, inputs};
    const int64_t all = whole(inputs);
    room.assign(size_t(rows * all), X{});
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t k = 0; k < inputs; ++k)
        room[size_t(row * all + k)] = widened(x[row * stride + k]);
    return {room.data(), rows, all, all};
  }
  static X widened(T x) {
    if constexpr (std::is_same_v<T, X>)
      return x;
    else
      return widen(x);
  }

  template <class Source, class Y>
  void multiply_to(const Source& source, const T* x, int64_t rows, Y* y,
                   const ProductExtra& extra) const {
    const auto* bias = static_cast<const T*>(extra.bias);
    const auto* add = static_cast<const Wide<T>*>(extra.add);
    const int64_t inputs = source.inputs(), outputs = source.outputs();
    const int64_t panels = (outputs + kPanelWidth - 1) / kPanelWidth;
    const int64_t part = std::min(inputs, kMostInputs);
    const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock, block = (rows + blocks - 1) / blocks;
    const int most = team_size(shape().threads);
    // Neighbours, of which the first one's rows fetch the next, are of one part.
    const int64_t shares = most > 1 ? std::min<int64_t>(panels, kSharesEach * most) : 1;
    std::vector<X> room;
    // Of each member, and taken before they begin: no exception may leave their parts.
    std::vector<std::unique_ptr<T[]>> tiles;
    for (int member = 0; member < most; ++member)
      tiles.push_back(std::make_unique_for_overwrite<T[]>(source.room(part)));
    // Of a sum in parts: [panel][row][kPanelWidth].
    std::vector<Wide<T>> unfinished(size_t(part < inputs ? panels * block * kPanelWidth : 0));
    for (int64_t top = 0; top < rows; top += block) {
      const int64_t count = std::min(block, rows - top);
      for (int64_t first = 0; first < inputs; first += part) {
        const Rows read =
            as_read(x + top * inputs + first, count, inputs, std::min(part, inputs - first), room);
        in_parts(shares, most, [&](int64_t one, int member) {
          for (int64_t n = panels * one / shares; n < panels * (one + 1) / shares; ++n) {
            Wide<T>* sums = part < inputs ? &unfinished[size_t(n * count * kPanelWidth)] : nullptr;
            const int64_t column = n * kPanelWidth, place = top * outputs + column;
            multiply_panel(source, n, read, first, sums, tiles[size_t(member)].get(),
                           PanelResult<T, Y>{bias ? bias + column : nullptr,
                                             add ? add + place : nullptr, y + place, outputs,
                                             std::min<int64_t>(kPanelWidth, outputs - column)});
          }
        });
      }
    }
  }

  template <class Y>
  static void finish(const PanelKernel<T, X>& kernel, const Wide<T>* sums, int64_t first, int rows,
                     const PanelResult<T, Y>& to) {
    if constexpr (std::is_same_v<Y, T>)
      kernel.finish(sums, first, rows, to);
    else
      kernel.finish_wide(sums, first, rows, to);
  }

  // The inputs from `first` on of all rows with panel n; those whose sums are whole then are done.
  template <class Source, class Y>
  void multiply_panel(const Source& source, int64_t n, const Rows& x, int64_t first,
                      Wide<T>* unfinished, T* room, const PanelResult<T, Y>& result) const {
    const PanelKernel<T, X> kernel = panel_kernel<T, X>();
    const T* tile = source.tile(n, first, x.inputs, room);
    Wide<T> all[kMostRows * kPanelWidth];
    const int64_t least = (x.count + kernel.most_rows - 1) / kernel.most_rows;
    const int64_t times = std::max<int64_t>(least, x.count >= kInTwo ? 2 : 1);
    Ahead ahead = source.ahead(n, first, times);
    for (int64_t time = 0, row = 0; time < times; ++time) {
      const int count = int((x.count - row) / (times - time));  // as equal as can be
      Wide<T>* sums = unfinished ? unfinished + row * kPanelWidth : all;
      kernel.multiply(x.first + row * x.stride, count, x.stride, x.inputs, tile, sums, first > 0,
                      ahead);
      ahead.from = static_cast<const std::byte*>(ahead.from) + x.inputs / kGroup * ahead.step;
      if (first + x.inputs >= source.inputs()) finish(kernel, sums, row, count, result);
      row += count;
    }
  }

  int64_t panels_;
  size_t size_;
  std::unique_ptr<T[]> packed_;
};

template <class T>
std::unique_ptr<ProductWeights> pack_singles(const ProductShape& shape, const void* matrix) {
  return std::make_unique<PanelWeights<T, Wide<T>>>(shape, matrix);
}

}  // namespace

template <>
PanelKernel<bf16> plain_panel_kernel() {
  return panel_kernel_of<bf16, float>(1, multiply_plain<bf16>);
}
template <>
PanelKernel<float> plain_panel_kernel() {
  return panel_kernel_of<float, float>(1, multiply_plain<float>);
}
template <>
PanelKernel<double> plain_panel_kernel() {
  return panel_kernel_of<double, double>(1, multiply_plain<double>);
}

std::unique_ptr<ProductWeights> pack_in_panels(const ProductShape& shape, const void* matrix) {
  switch (shape.type) {
    case NumberType::kBf16:
      return pack_singles<bf16>(shape, matrix);
    case NumberType::kFloat:
      return pack_singles<float>(shape, matrix);
    case NumberType::kDouble:
      return pack_singles<double>(shape, matrix);
  }
  return nullptr;
}

std::unique_ptr<ProductWeights> pack_pairs(const ProductShape& shape, const void* matrix) {
  if (shape.type != NumberType::kBf16 || !has_pair_kernels()) return nullptr;
  return std::make_unique<PanelWeights<bf16, bf16>>(shape, matrix);
}

}  // namespace svfleet
