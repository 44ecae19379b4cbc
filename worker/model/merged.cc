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
                           std::span<const float> z, const std::string& hash) {
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
  made.sum =
      add_keyed(made.base, made.change, row_keys(mix(key_of(hash), uint64_t(t)), target.rows));
  return made;
}

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
               const SideBySide& side_by_side)
    : basis_(&basis),
      weights_(std::move(before.weights_)),
      added_(basis.targets().size()),
      z_(basis.at_rest()),
      hash_(z_hash(as_expert(basis, z))) {
  const std::vector<Target>& targets = basis.targets();
  SVFLEET_CHECK(!before.basis_ || before.basis_ == basis_, "merged weights of another basis");
  weights_.resize(targets.size());
  std::vector<double> along(targets.size()), wanted(targets.size());
  const auto build = [&](int64_t t) {
    c10::NoGradGuard no_grad;
    const Target& target = targets[t];
    const InStage merging(Stage::kMerge,
                          double(target.rows) * double(target.cols) * double(target.basis_rows()));
    const Linear& linear = frozen_linear(weights, target);
    const Core::Part part = basis.core().part(size_t(t));
    std::copy_n(z.begin() + part.offset, part.length, z_.begin() + part.offset);
    const at::Tensor d = basis.change_of(size_t(t), z);
    if (d.count_nonzero().item<int64_t>())
      added_[size_t(t)] = core_bias_change(basis, size_t(t), linear, d);
    weights_[t] = Matrix();
    const MergedWeight made = merged_weight(weights, basis, size_t(t), z, hash_);
    if (!made.sum.defined()) {
      weights_[t] = linear.weight;
      return;
    }
    const auto some = [](const at::Tensor& all) {
      return all.slice(0, 0, all.size(0), kGainEvery);
    };
    const at::Tensor wanted_here = some(made.change);
    along[t] =
        along_each_other(some(made.sum).to(wide_of(made.sum)) - some(made.base), wanted_here);
    wanted[t] = along_each_other(wanted_here, wanted_here);
    weights_[t] = Matrix(made.sum);
    weights_[t].keep_packed(/*times=*/true, /*back=*/false);
  };
  side_by_side(int64_t(targets.size()), build);
  double all_along = 0, all_wanted = 0;
  for (size_t t = 0; t < targets.size(); ++t) all_along += along[t], all_wanted += wanted[t];
  gain_ = all_wanted > 0 ? all_along / all_wanted : std::numeric_limits<double>::quiet_NaN();
}

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z)
    : Merged(weights, basis, z, Merged(), [](int64_t count, const auto& work) {
        for (int64_t i = 0; i < count; ++i) work(i);
      }) {}

}  // namespace svfleet
