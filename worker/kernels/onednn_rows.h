// oneDNN's products for single numbers of rows, made when they are first needed and then kept.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <dnnl.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "worker/kernels/product.h"

namespace svfleet {

constexpr int64_t kRowBlock = 256;  // rows of a large product's pieces
constexpr int64_t kMostRows = 64;   // else, a piece has at most so many

const dnnl::engine& onednn_engine();

// What products are made for. They are shared by all matrices of a shape.
struct MatrixShape {
  NumberType type;
  int64_t inputs, outputs;
  int threads;

  auto operator<=>(const MatrixShape&) const = default;
};

struct ProductVariant {
  bool add, bias, wide;
  size_t index() const { return size_t(add) | size_t(bias) << 1 | size_t(wide) << 2; }
};

// How the matrix lies in memory. Empty where oneDNN cannot multiply this type by kernels that give
// a row the same bits in every number of rows.
struct PackedLayout {
  dnnl::memory::desc description;
  std::string implementation;
};
PackedLayout packed_layout(const MatrixShape& shape);

// oneDNN divides the work when it makes a product, for the threads that OpenMP has then, and leaves
// some of it undone, without a word, where a team is smaller later. While this lives, teams have
// the same size always: the calling thread may not be given fewer.
class OnednnThreads {
 public:
  explicit OnednnThreads(int threads);
  ~OnednnThreads();
  OnednnThreads(const OnednnThreads&) = delete;
  OnednnThreads& operator=(const OnednnThreads&) = delete;

  static int most();

 private:
  int before_, dynamic_;
};

// One number of rows. Thread-safe; to be made and used with OnednnThreads.
class RowsProduct {
 public:
  RowsProduct(const MatrixShape& shape, const dnnl::memory::desc& weights, int64_t rows,
              ProductVariant variant);

  void multiply(const void* x, const dnnl::memory& weights, void* y, const ProductExtra& extra);

 private:
  // Memory objects cost as much to make as a small product.
  struct Call {
    dnnl::stream stream;
    dnnl::memory x, y, add, bias, scratch;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  std::unique_ptr<Call> take();
  void give_back(std::unique_ptr<Call> call);

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul primitive_;
  dnnl::memory::desc add_;
  ProductVariant variant_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Call>> idle_;
};

// All products with matrices of one shape, made when first asked for (half a millisecond, a tenth
// of a megabyte): at most kMostRows + 1 numbers of rows in eight variants. Thread-safe.
class MatrixProducts {
 public:
  MatrixProducts(const MatrixShape& shape, const dnnl::memory::desc& weights)
      : shape_(shape), weights_(weights) {}

  // rows: 1 .. kMostRows, or kRowBlock
  RowsProduct& at(int64_t rows, ProductVariant variant);

  // Those of a shape, shared by all matrices that have it at a time.
  static std::shared_ptr<MatrixProducts> of(const MatrixShape& shape,
                                            const dnnl::memory::desc& weights);

 private:
  MatrixShape shape_;
  dnnl::memory::desc weights_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<RowsProduct>> owned_;
  std::array<std::array<std::atomic<RowsProduct*>, kMostRows + 1>, 8> made_{};
};

}  // namespace svfleet
