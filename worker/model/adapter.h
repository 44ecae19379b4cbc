// How an expert takes part in a product y = W x + bias of the decoder, in one of three forms, and
// what its gradient needs of that product.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/model/core_products.h"
#include "worker/model/expert_table.h"
#include "worker/model/merged.h"
#include "worker/model/weights.h"

namespace svfleet {

enum class Apply {
  kFrozen,      // not at all: the base model
  kMerged,      // W' in place of W
  kActivation,  // W (x + D) with D = Q (d o Q^T x) on the right, y + Q (d o Q^T y) on the left; of
                // other cores than SVF's: core_products.h
};

// What the rows of a pass are to an adapter: whose, and at which places of their sequences.
class Rows {
 public:
  Rows(std::vector<int> entries, const std::vector<int64_t>& positions, at::Device device);

  bool one() const { return one_; }  // all of one entry
  int entry() const { return entries_.front(); }
  const std::vector<int>& entries() const { return entries_; }
  const at::Tensor& index() const { return index_; }  // [rows] int32; undefined where one()
  const std::vector<int64_t>& positions() const { return positions_; }

 private:
  const std::vector<int> entries_;
  const std::vector<int64_t> positions_;
  bool one_;
  at::Tensor index_;
};

// A value; what is of one core alone is behind it (core_products.h). It names what it reads, which
// must stay while it is used: the table's entries, and W' of one z where merged.
class Adapter {
 public:
  Adapter() = default;  // the base model
  Adapter(Apply kind, const ExpertTable* table, const Merged* merged);

  Apply kind() const { return kind_; }
  const ExpertTable* table() const { return table_; }

  // Before the first product: W' is of one z, so that all rows must be of one entry there.
  void check(const Rows& rows) const;
  // The target that is this linear of this layer, as far as these rows see it changed; else -1.
  int target(int layer, int linear, const Rows& rows) const;

  // y [rows, outputs] of target t (-1: none, the base's product). Changes are made in float32 and
  // added before the product's only rounding; on the right, where that would be the rounding of
  // its input, x + D is rounded by chance, keyed by z, target, position and column. d = 0 gives the
  // base's bits.
  at::Tensor product(int t, const Linear& linear, const at::Tensor& x, const Rows& rows) const;

  // The gradient at x [rows, inputs], wide, of what has the gradient g [rows, outputs] at y; and
  // what dz is made of: dL/dz_i of a group of rows is the sum over them of a_i b_i (DESIGN: the
  // undivided form, which holds for every z).
  //   right: a = Q^T x, b = Q^T W^T g;   left: a = Q^T g, b = Q^T W x
  // Without a target there are no sums.
  CoreBackward backward(int t, const Linear& linear, const at::Tensor& x, const at::Tensor& g,
                        const Rows& rows, bool d_x_wanted = true) const;

 private:
  const Basis& basis() const { return table_ ? table_->basis() : merged_->basis(); }
  at::Tensor keys(int t, const Rows& rows) const;
  bool is_diagonal() const { return basis().core().kind() == CoreKind::kDiagonal; }
  RowCoefficients coefficients(int t, const Rows& rows) const {
    return of(table_->d(size_t(t)), rows);
  }
  static RowCoefficients of(const at::Tensor& d, const Rows& rows);  // d [entries, ...]

  Apply kind_ = Apply::kFrozen;
  const ExpertTable* table_ = nullptr;
  const Merged* merged_ = nullptr;
};

}  // namespace svfleet
