#include "worker/model/adapter.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#include "worker/kernels/elementwise.h"
#include "worker/model/operations.h"
#include "worker/model/typed.h"
#include "worker/test_fault.h"

namespace svfleet {

namespace {

// d o x of each row's entry, rounded to the model's type: what Q is multiplied by next.
at::Tensor scaled(const at::Tensor& x, const RowCoefficients& own, at::ScalarType type) {
  return scale_rows(x, own.d, own.entry_of, type);
}

}  // namespace

Rows::Rows(std::vector<int> entries, const std::vector<int64_t>& positions, at::Device device)
    : entries_(std::move(entries)), positions_(positions) {
  SVFLEET_CHECK(!entries_.empty() && entries_.size() == positions_.size(), "no rows");
  one_ = std::all_of(entries_.begin(), entries_.end(),
                     [&](int entry) { return entry == entries_.front(); });
  if (one_) return;
  index_ = at::empty({int64_t(entries_.size())}, at::kInt);
  std::copy(entries_.begin(), entries_.end(), index_.data_ptr<int>());
  index_ = index_.to(device);
}

Adapter::Adapter(Apply kind, const ExpertTable* table, const Merged* merged)
    : kind_(kind), table_(table), merged_(merged) {
  SVFLEET_CHECK(kind == Apply::kFrozen || table, "no table for form ", int(kind));
  SVFLEET_CHECK(kind != Apply::kMerged || merged, "nothing merged");
  SVFLEET_CHECK(kind != Apply::kMerged || &table->basis() == &merged->basis(),
                "a table and merged weights of two bases");
}

void Adapter::check(const Rows& rows) const {
  if (kind_ == Apply::kFrozen) return;
  for (const int entry : rows.entries())
    SVFLEET_CHECK(entry >= 0 && entry < table_->size(), "entry ", entry, " of ", table_->size());
  if (kind_ != Apply::kMerged) return;
  SVFLEET_CHECK(rows.one(), "merged weights are of one expert");
  SVFLEET_CHECK(rows.entry() == kBaseEntry || table_->hash(rows.entry()) == merged_->hash(),
                "W' is of another z than entry ", rows.entry());
}

int Adapter::target(int layer, int linear, const Rows& rows) const {
  if (kind_ == Apply::kFrozen || (rows.one() && rows.entry() == kBaseEntry)) return -1;
  return basis().find(layer, linear);
}

RowCoefficients Adapter::of(const at::Tensor& d, const Rows& rows) {
  if (rows.one()) return {d[rows.entry()], {}};
  return {d, rows.index()};
}

at::Tensor Adapter::keys(int t, const Rows& rows) const {
  at::Tensor keys = at::empty({int64_t(rows.entries().size())}, at::kLong);
  auto* key = data_of<uint64_t>(keys);
  for (size_t row = 0; row < rows.entries().size(); ++row)
    key[row] = mix(table_->key(rows.entries()[row], t), uint64_t(rows.positions()[row]));
  return keys;
}

at::Tensor Adapter::product(int t, const Linear& linear, const at::Tensor& x,
                            const Rows& rows) const {
  if (t < 0) return linear.weight.times(x, {.bias = linear.bias});
  if (t == 0) test_fault();
  if (kind_ == Apply::kMerged) {
    const at::Tensor& added = merged_->added(size_t(t));
    at::Tensor by_row;
    if (added.defined()) by_row = added.unsqueeze(0).expand({x.size(0), added.size(0)});
    return merged_->weight(size_t(t)).times(x, {by_row, linear.bias});
  }
  if (!is_diagonal()) {
    const RowCoefficients own = coefficients(t, rows);
    const at::Tensor change = core_input_change(basis(), size_t(t), x, own);
    if (!change.defined()) return core_output(basis(), size_t(t), linear, x, own);
    return linear.weight.times(add_keyed(x, change, keys(t, rows)), {.bias = linear.bias});
  }
  const ExpertTable::Moved& moved = table_->moved(size_t(t));
  const Matrix& q = moved.columns ? moved.columns->q : basis().q(size_t(t));
  const RowCoefficients own = of(moved.d, rows);
  if (basis().targets()[size_t(t)].form == Form::kRight) {
    const at::Tensor change = q.times_wide(scaled(q.back_wide(x), own, x.scalar_type()));
    return linear.weight.times(add_keyed(x, change, keys(t, rows)), {.bias = linear.bias});
  }
  const at::Tensor y = linear.weight.times_wide(x);
  const at::Tensor in_basis = q.back_wide(rounded(y, x.scalar_type()));
  return q.times(scaled(in_basis, own, x.scalar_type()), {y, linear.bias});
}

CoreBackward Adapter::backward(int t, const Linear& linear, const at::Tensor& x,
                               const at::Tensor& g, const Rows& rows, bool d_x_wanted) const {
  CoreBackward out;
  const Matrix& weight = linear.weight;
  if (t < 0) {
    if (d_x_wanted) out.d_x = weight.back_wide(g);
    return out;
  }
  if (!is_diagonal())
    return core_backward(basis(), size_t(t), linear, x, g, coefficients(t, rows), d_x_wanted);
  const Matrix& q = basis().q(size_t(t));
  const at::ScalarType type = x.scalar_type();
  if (basis().targets()[size_t(t)].form == Form::kRight) {
    const at::Tensor back = weight.back_wide(g);
    const at::Tensor b = q.back_wide(rounded(back, type));
    out.sums = {{q.back_wide(x), b}};
    if (d_x_wanted) out.d_x = q.times_wide(scaled(b, coefficients(t, rows), type), {.rows = back});
    return out;
  }
  const at::Tensor a = q.back_wide(g);
  out.sums = {{a, q.back_wide(weight.times(x))}};
  if (!d_x_wanted) return out;
  const at::Tensor g_wide = g.to(wide_of(g));
  out.d_x = weight.back_wide(q.times(scaled(a, coefficients(t, rows), type), {.rows = g_wide}));
  return out;
}

}  // namespace svfleet
