#include "worker/model/merged.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <limits>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/kernels/elementwise.h"
#include "worker/model/core_products.h"
#include "worker/model/expert_table.h"
#include "worker/model/operations.h"
#include "worker/model/typed.h"

namespace svfleet {
namespace {

// Every so many rows one counts for the gain.
constexpr int64_t kGainEvery = 16;

const Linear& frozen_linear(const Weights& weights, const Target& target) {
  const auto& kinds = linear_kinds();
  const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
  return weights.layer(target.layer).linears[kind];
}

// What z adds to W [m, n], wide.
at::Tensor change_of(const Target& target, const Matrix& weight, const at::Tensor& plain,
                     const Matrix& q, const at::Tensor& d) {
  const at::Tensor scaled = scale_rows(q.plain().to(d.scalar_type()), d, {}, q.type());
  const at::Tensor c = q.times(scaled);  // Q diag(d) Q^T
  if (target.form == Form::kLeft) return weight.back_wide(c);
  // Its own transpose but for rounding, so that either direction would do.
  return Matrix(c).back_wide(plain);
}

at::Tensor row_keys(uint64_t key, int64_t rows) {
  at::Tensor keys = at::empty({rows}, at::kLong);
  for (int64_t row = 0; row < rows; ++row) data_of<uint64_t>(keys)[row] = mix(key, uint64_t(row));
  return keys;
}

double along_each_other(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) * b.to(at::kDouble)).sum().item<double>();
}

}  // namespace

MergedWeight merged_weight(const Weights& weights, const Basis& basis, size_t t,
                           std::span<const float> z, uint64_t key) {
  c10::NoGradGuard no_grad;
  const Target& target = basis.targets()[t];
  const Matrix& weight = frozen_linear(weights, target).weight;
  const at::Tensor d = basis.change_of(t, z);
  if (!d.count_nonzero().item<int64_t>()) return {};  // W + 0 would turn -0 into +0
  MergedWeight made;
  made.base = weight.plain();
  made.change = basis.core().kind() == CoreKind::kDiagonal
                    ? change_of(target, weight, made.base, basis.q(t), d)
                    : core_weight_change(basis, t, weight, made.base, d);
  if (!made.change.defined()) return {};
  made.sum = add_keyed(made.base, made.change, row_keys(key, target.rows));
  return made;
}

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
               const SideBySide& side_by_side, const std::vector<bool>& wanted)
    : basis_(&basis),
      parts_(std::move(before.parts_)),
      z_(basis.at_rest()),
      keys_(rounding_keys(basis, z)),
      hash_(z_hash(as_expert(basis, z))) {
  SVFLEET_CHECK(!before.basis_ || before.basis_ == basis_, "merged weights of another basis");
  const size_t targets = basis.targets().size();
  parts_.resize(targets);
  std::vector<size_t> mine;
  for (size_t t = 0; t < targets; ++t) {
    parts_[t].state = Part::kOld;
    if (wanted.empty() || wanted[t]) mine.push_back(t);
  }
  side_by_side(int64_t(mine.size()), [&](int64_t i) { build(weights, z, mine[size_t(i)]); });
}

Merged::Part Merged::begin(const Weights& weights, std::span<const float> z, size_t t) {
  parts_[t] = {};
  const Core::Part part = basis_->core().part(t);
  std::copy_n(z.begin() + part.offset, part.length, z_.begin() + part.offset);
  const at::Tensor d = basis_->change_of(t, z);
  Part made;
  if (d.count_nonzero().item<int64_t>())
    made.added = core_bias_change(*basis_, t, frozen_linear(weights, basis_->targets()[t]), d);
  return made;
}

void Merged::build(const Weights& weights, std::span<const float> z, size_t t) {
  c10::NoGradGuard no_grad;
  const Target& target = basis_->targets()[t];
  const InStage merging(Stage::kMerge,
                        double(target.rows) * double(target.cols) * double(target.basis_rows()));
  Part part = begin(weights, z, t);
  part.state = Part::kBuilt;
  const MergedWeight made = merged_weight(weights, *basis_, t, z, keys_[t]);
  part.changed = made.sum.defined();
  if (part.changed) {
    const auto some = [](const at::Tensor& all) {
      return all.slice(0, 0, all.size(0), kGainEvery);
    };
    const at::Tensor wanted_here = some(made.change);
    part.along =
        along_each_other(some(made.sum).to(wide_of(made.sum)) - some(made.base), wanted_here);
    part.wanted = along_each_other(wanted_here, wanted_here);
    part.weight = Matrix(made.sum);
    part.weight.keep_packed(/*times=*/true, /*back=*/false);
  } else {
    part.weight = frozen_linear(weights, target).weight;
  }
  parts_[t] = std::move(part);
}

MergedPart Merged::part(size_t t) const {
  const Part& own = parts_[t];
  SVFLEET_CHECK(own.state == Part::kBuilt, "W' of target ", t, " was not built here");
  return {hash_, own.changed ? own.weight.plain().cpu() : at::Tensor(), own.along, own.wanted};
}

void Merged::take(const Weights& weights, std::span<const float> z, size_t t,
                  const MergedPart& part, const std::string& giver) {
  c10::NoGradGuard no_grad;
  const Target& target = basis_->targets()[t];
  if (part.hash != hash_)
    throw node_error(kExitRequeue, giver, " gave W' of ", target.name, " built with another z (",
                     part.hash, ") than is to be in force (", hash_,
                     "); a memory or processor is at fault, or else a bug of svfleet that will "
                     "show again here; start again");
  Part own = begin(weights, z, t);
  own.state = Part::kTaken;
  own.changed = part.weight.defined();
  own.along = part.along, own.wanted = part.wanted;
  own.weight = frozen_linear(weights, target).weight;
  if (own.changed) {
    SVFLEET_CHECK(part.weight.dim() == 2 && part.weight.size(0) == target.rows &&
                      part.weight.size(1) == target.cols &&
                      part.weight.scalar_type() == own.weight.type(),
                  part.weight.sizes(), " for W' of ", target.name);
    own.weight = Matrix(part.weight.to(weights.device()));
    own.weight.keep_packed(/*times=*/true, /*back=*/false);
  }
  parts_[t] = std::move(own);
}

bool Merged::whole() const {
  return std::all_of(parts_.begin(), parts_.end(),
                     [](const Part& part) { return part.state != Part::kOld; });
}

int64_t Merged::built() const {
  return std::count_if(parts_.begin(), parts_.end(),
                       [](const Part& part) { return part.state == Part::kBuilt && part.changed; });
}

double Merged::gain() const {
  double along = 0, wanted = 0;
  for (const Part& part : parts_) along += part.along, wanted += part.wanted;
  return wanted > 0 ? along / wanted : std::numeric_limits<double>::quiet_NaN();
}

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z)
    : Merged(weights, basis, z, Merged(), [](int64_t count, const auto& work) {
        for (int64_t i = 0; i < count; ++i) work(i);
      }) {}

std::vector<int> merge_shares(const Basis& basis, std::span<const float> z, int processes) {
  const std::vector<Target>& targets = basis.targets();
  std::vector<int> share(targets.size(), -1);
  std::vector<double> work(targets.size());
  std::vector<size_t> order;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (!basis.change_of(t, z).count_nonzero().item<int64_t>()) continue;
    work[t] = double(targets[t].rows) * double(targets[t].cols) * double(targets[t].basis_rows());
    order.push_back(t);
  }
  // The largest first, each to whoever has least.
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return work[a] > work[b]; });
  std::vector<double> load(size_t(processes), 0);
  for (const size_t t : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += work[t];
    share[t] = int(least - load.begin());
  }
  return share;
}

}  // namespace svfleet
