// A matrix that rows of activations are multiplied by. On the CPU it is packed the first time that
// it is needed in a direction; a row's result has the same bits whatever rows stand beside it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace svfleet {

// What is added in float32 (float64 for float64) before a product's only rounding: [rows, outputs]
// wide, and [outputs] of the matrix's type; or nothing.
struct AddedToProduct {
  at::Tensor rows = {}, bias = {};
};

class Matrix {
 public:
  using Added = AddedToProduct;

  Matrix() = default;
  // [outputs, inputs], bfloat16, float32 or float64. Of one that is also looked up, the plain
  // tensor is given up only where its rows can be read from a packed copy.
  explicit Matrix(at::Tensor plain, bool looked_up = false);

  // x M^T + added: x [rows, inputs] of the matrix's type -> [rows, outputs], of its type or wide.
  at::Tensor times(const at::Tensor& x, const Added& added = {}) const;
  at::Tensor times_wide(const at::Tensor& x, const Added& added = {}) const;
  // x M + added: x [rows, outputs] -> [rows, inputs].
  at::Tensor back(const at::Tensor& x, const Added& added = {}) const;
  at::Tensor back_wide(const at::Tensor& x, const Added& added = {}) const;

  // [outputs, inputs]; made anew where only packed copies are kept.
  at::Tensor plain() const;
  // [rows, inputs], rows of it.
  at::Tensor look_up(std::span<const int> rows) const;
  at::ScalarType type() const;
  // On the CPU: packs what these products need and gives the plain tensor up, unless neither is
  // wanted. Where the kernels turn a matrix as they read it, one copy does for both, which costs as
  // much as a few rows: `few_rows` makes a copy for each. Not while others use it.
  void keep_packed(bool times, bool back, bool few_rows = false) const;
  // What it holds: the plain tensor, or undefined, and the packed copies, as bytes. Nothing may
  // change them.
  at::Tensor plain_if_kept() const;
  std::vector<at::Tensor> packed() const;
  // Products with this matrix so far, in either direction.
  int64_t products() const;

 private:
  struct Held;
  at::Tensor product(const at::Tensor& x, bool back, bool wide, const Added& added) const;

  std::shared_ptr<Held> held_;
};

}  // namespace svfleet
