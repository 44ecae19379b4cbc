#include "worker/model/adapter.h"

#include <ATen/ATen.h>

#include <cstring>

#include "comm/error.h"
#include "svd/apply.h"
#include "worker/model/index_tensor.h"

namespace svfleet {
namespace {

// Runs of fewer rows than this on average take a scale a row, gathered from the table; longer ones
// are multiplied run by run, since z of a row is as long as its own activations in float32.
constexpr int64_t kLongRun = 64;

// A NaN is the same as itself: what it does to a gradient is for others to find.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

Rows::Rows(const std::vector<Run>& runs, at::Device device) {
  int64_t rows = 0;
  for (const Run& run : runs) {
    rows += run.length;
    if (!runs_.empty() && runs_.back().entry == run.entry)
      runs_.back().length += run.length;
    else
      runs_.push_back(run);
  }
  SVFLEET_CHECK(rows > 0, "no rows");
  if (one() || rows >= kLongRun * int64_t(runs_.size())) return;
  std::vector<int64_t> entries;
  for (const Run& run : runs_) entries.insert(entries.end(), size_t(run.length), run.entry);
  index_ = index_tensor(entries, device);
}

Adapter::Adapter(Apply kind, const ExpertTable* table, const Merged* merged)
    : kind_(kind), table_(table), merged_(merged) {
  const bool reads_table = kind == Apply::kActivation || kind == Apply::kClosedForm;
  const bool reads_merged = kind == Apply::kMerged || kind == Apply::kClosedForm;
  SVFLEET_CHECK(!reads_table || table, "no table for form ", int(kind));
  SVFLEET_CHECK(!reads_merged || merged, "nothing merged for form ", int(kind));
  SVFLEET_CHECK(!reads_table || !reads_merged || &table->basis() == &merged->basis(),
                "a table and merged weights of two bases");
}

void Adapter::check(const Rows& rows) const {
  if (kind_ == Apply::kMerged || kind_ == Apply::kClosedForm) {
    SVFLEET_CHECK(rows.one() && rows.entry() <= kOnlyExpert,
                  "merged weights are of one expert, rows of entry ", rows.runs().back().entry);
    if (kind_ == Apply::kClosedForm && rows.entry() == kOnlyExpert)
      SVFLEET_CHECK(same_bits(table_->z(kOnlyExpert), merged_->z()),
                    "W' is of another z than the table's");
  }
  if (kind_ != Apply::kActivation) return;
  for (const Rows::Run& run : rows.runs())
    SVFLEET_CHECK(run.entry >= 0 && run.entry < table_->size(), "entry ", run.entry, " of ",
                  table_->size());
}

int Adapter::target(int layer, int linear, const Rows& rows) const {
  if (kind_ == Apply::kFrozen || (rows.one() && rows.entry() == kBaseEntry)) return -1;
  return basis().find(layer, linear);
}

const at::Tensor& Adapter::weight(int t, const Linear& linear) const {
  return kind_ == Apply::kActivation ? linear.weight : merged_->weight(size_t(t));
}

bool Adapter::changes_output(int t) const {
  return kind_ == Apply::kActivation && basis().targets()[size_t(t)].form == Form::kLeft;
}

at::Tensor Adapter::input_change(int t, const at::Tensor& x, const Rows& rows) const {
  if (kind_ != Apply::kActivation || changes_output(t)) return {};
  return change(t, x, rows);
}

at::Tensor Adapter::output_change(int t, const at::Tensor& /*x*/, const at::Tensor& y,
                                  const Rows& rows) const {
  return changes_output(t) ? change(t, y, rows) : at::Tensor();
}

Adapter::Scaling Adapter::scaling(int t, const Rows& rows) const {
  return {basis().targets()[size_t(t)].form, basis().q(size_t(t)),
          table_->d(size_t(t)).select(0, rows.entry())};
}

at::Tensor Adapter::change(int t, const at::Tensor& x, const Rows& rows) const {
  const at::Tensor &q = basis().q(size_t(t)), &d = table_->d(size_t(t));
  if (rows.one()) return scaled_in_basis(x, q, d.select(0, rows.entry()));
  // Not below a graph: on a GPU its backward pass would add the rows of an entry in no fixed order.
  if (rows.index().defined() && !d.requires_grad())
    return scaled_in_basis(x, q, d.index_select(0, rows.index()));
  std::vector<at::Tensor> changes;
  int64_t start = 0;
  for (const Rows::Run& run : rows.runs()) {
    changes.push_back(scaled_in_basis(x.narrow(0, start, run.length), q, d.select(0, run.entry)));
    start += run.length;
  }
  return at::cat(changes);
}

}  // namespace svfleet
