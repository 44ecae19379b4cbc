#include "worker/model/expert_table.h"

#include <ATen/ATen.h>

#include <mutex>

#include "comm/error.h"

namespace svfleet {

struct ExpertTable::MadeOnce {
  std::once_flag once;
  Moved moved;
};

ExpertTable::ExpertTable(const Basis& basis) : basis_(&basis), d_(basis.targets().size()) {
  if (basis.core().kind() == CoreKind::kDiagonal)
    for (const Target& target : basis.targets())
      moves_.emplace_back(size_t(target.length()), false);
  add(basis.at_rest());
}

int ExpertTable::add(std::span<const float> z) {
  for (size_t t = 0; t < d_.size(); ++t) {
    const at::Tensor row = basis_->change_of(t, z).unsqueeze(0);
    d_[t] = d_[t].defined() ? at::cat({d_[t], row}) : row;
    if (moves_.empty()) continue;
    const Core::Part part = basis_->core().part(t);
    for (int64_t i = 0; i < part.length; ++i)
      if (z[size_t(part.offset + i)] != basis_->core().at_rest()) moves_[t][size_t(i)] = true;
  }
  made_.reset(new MadeOnce[d_.size()]);
  z_.emplace_back(z.begin(), z.end());
  hashes_.push_back(z_hash(as_expert(*basis_, z)));
  keys_.push_back(rounding_keys(*basis_, z));
  return size() - 1;
}

const ExpertTable::Moved& ExpertTable::moved(size_t t) const {
  MadeOnce& made = made_[std::ptrdiff_t(t)];
  std::call_once(made.once, [&] {
    made.moved.columns = basis_->columns(t, moves_[t]);
    made.moved.d = made.moved.columns
                       ? d_[t].index_select(1, at::tensor(made.moved.columns->places, at::kLong))
                       : d_[t];
  });
  return made.moved;
}

int ExpertTable::add_mixture(const std::vector<Part>& parts) {
  if (basis_->core().kind() == CoreKind::kLora)
    throw user_error(
        "experts of train.core lora cannot be mixed: what A and B are together is not "
        "what their changes are; mix experts of another core");
  const double rest = basis_->core().at_rest();
  std::vector<float> mixed(z_[kBaseEntry].size());
  for (size_t i = 0; i < mixed.size(); ++i) {
    double z = rest;
    for (const Part& part : parts) z += part.share * (double(z_.at(size_t(part.entry))[i]) - rest);
    mixed[i] = float(z);
  }
  return add(mixed);
}

}  // namespace svfleet
