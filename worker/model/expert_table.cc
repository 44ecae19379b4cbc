#include "worker/model/expert_table.h"

#include <ATen/ATen.h>

#include "comm/error.h"
#include "worker/model/index_tensor.h"

namespace svfleet {

ExpertTable::ExpertTable(const Basis& basis) : basis_(&basis), d_(basis.targets().size()) {
  add(std::vector<float>(size_t(total_length(basis.targets())), 1.0f));
}

int ExpertTable::add(std::span<const float> z) {
  for (size_t t = 0; t < d_.size(); ++t) {
    const at::Tensor row = basis_->change_of(t, z).unsqueeze(0);
    d_[t] = d_[t].defined() ? at::cat({d_[t], row}) : row;
  }
  z_.emplace_back(z.begin(), z.end());
  hashes_.push_back(z_hash(as_expert(*basis_, z)));
  return size() - 1;
}

int ExpertTable::add_mixture(const std::vector<Part>& parts) {
  std::vector<float> mixed(z_[kBaseEntry].size());
  for (size_t i = 0; i < mixed.size(); ++i) {
    double z = 1;
    for (const Part& part : parts) z += part.share * (double(z_.at(size_t(part.entry))[i]) - 1);
    mixed[i] = float(z);
  }
  return add(mixed);
}

ExpertTable ExpertTable::leaves(const std::vector<int>& entries) const {
  ExpertTable chosen;
  chosen.basis_ = basis_;
  std::vector<int64_t> rows = {kBaseEntry};
  rows.insert(rows.end(), entries.begin(), entries.end());
  for (const int64_t row : rows) {
    SVFLEET_CHECK(row >= 0 && row < size(), "entry ", row, " of ", size());
    chosen.z_.push_back(z_[size_t(row)]);
    chosen.hashes_.push_back(hashes_[size_t(row)]);
  }
  for (const at::Tensor& d : d_)
    chosen.d_.push_back(d.index_select(0, index_tensor(rows, d.device())).requires_grad_(true));
  return chosen;
}

}  // namespace svfleet
