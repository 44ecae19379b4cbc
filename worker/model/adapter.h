// How an expert takes part in a forward pass: three hooks around each product y = W x + bias.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/model/expert_table.h"
#include "worker/model/merged.h"
#include "worker/model/weights.h"

namespace svfleet {

enum class Apply {
  kFrozen,      // not at all: the base model
  kMerged,      // W' in place of W
  kActivation,  // W (x + Q (d o Q^T x)) on the right, y + Q (d o Q^T y) on the left, d = z - 1
  kClosedForm,  // W' forward, closed-form z gradient backward
};

// Which entry of the table the rows of a product are for.
class Rows {
 public:
  struct Run {
    int64_t length;
    int entry;
  };
  // `runs` in the order of the rows.
  Rows(const std::vector<Run>& runs, at::Device device);

  bool one() const { return runs_.size() == 1; }
  int entry() const { return runs_.front().entry; }  // of the first
  const std::vector<Run>& runs() const { return runs_; }
  // Each row's entry [rows], where runs are short; otherwise undefined.
  const at::Tensor& index() const { return index_; }

 private:
  std::vector<Run> runs_;  // no two neighbours of the same entry
  at::Tensor index_;
};

// A value with a switch. It names what it reads, which must stay while it is used: the table's
// entries for activations, W' of one z where the weights are merged.
class Adapter {
 public:
  Adapter() = default;  // the base model
  Adapter(Apply kind, const ExpertTable* table, const Merged* merged);

  Apply kind() const { return kind_; }
  const ExpertTable* table() const { return table_; }
  const Merged* merged() const { return merged_; }

  // Before the first product: W' is of one z, so that all rows must be of one entry there.
  void check(const Rows& rows) const;
  // The target that is this linear of this layer, as far as these rows see it changed; else -1, and
  // the product is W x + bias with no hook.
  int target(int layer, int linear, const Rows& rows) const;

  // The hooks, for a target t: a weight, and changes or nothing, which the decoder adds. `y` is
  // W x before the bias, which is no part of W' x; the changes are rounded to the type of x and y.
  const at::Tensor& weight(int t, const Linear& linear) const;
  at::Tensor input_change(int t, const at::Tensor& x, const Rows& rows) const;
  at::Tensor output_change(int t, const at::Tensor& x, const at::Tensor& y, const Rows& rows) const;
  // Whether output_change is something: the bias must then wait.
  bool changes_output(int t) const;

  // What the closed form's own product reads: the form, Q and z - 1 [r] of the rows' one entry.
  struct Scaling {
    Form form;
    at::Tensor q, d;
  };
  Scaling scaling(int t, const Rows& rows) const;

 private:
  at::Tensor change(int t, const at::Tensor& x, const Rows& rows) const;
  const Basis& basis() const { return table_ ? table_->basis() : merged_->basis(); }

  Apply kind_ = Apply::kFrozen;
  const ExpertTable* table_ = nullptr;
  const Merged* merged_ = nullptr;
};

}  // namespace svfleet
