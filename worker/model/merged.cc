#include "worker/model/merged.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <atomic>

#include "comm/error.h"
#include "comm/stage.h"
#include "svd/apply.h"

namespace svfleet {
namespace {

const at::Tensor& frozen_weight(const Weights& weights, const Target& target) {
  const auto& kinds = linear_kinds();
  const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
  return weights.layer(target.layer).linears[kind].weight;
}

}  // namespace

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
               const SideBySide& side_by_side)
    : basis_(&basis), weights_(std::move(before.weights_)), z_(z.size(), 1.0f) {
  const std::vector<Target>& targets = basis.targets();
  SVFLEET_CHECK(!before.basis_ || before.basis_ == basis_, "merged weights of another basis");
  weights_.resize(targets.size());
  std::atomic<int64_t> changed = 0, all = 0;
  const auto build = [&](int64_t t) {
    c10::NoGradGuard no_grad;
    const Target& target = targets[t];
    const InStage merging(Stage::kMerge,
                          double(target.rows) * double(target.cols) * double(target.length()));
    const at::Tensor& weight = frozen_weight(weights, target);
    at::Tensor next = at::empty_like(weight);
    merge(target.form, weight, basis.stored_q(t), basis.change_of(t, z), next);
    changed += next.ne(weights_[t].defined() ? weights_[t] : weight).sum().item<int64_t>();
    all += target.rows * target.cols;
    weights_[t] = next;
    std::copy_n(z.begin() + target.offset, target.length(), z_.begin() + target.offset);
  };
  side_by_side(int64_t(targets.size()), build);
  changed_share_ = all ? double(changed) / double(all) : 0;
}

Merged::Merged(const Weights& weights, const Basis& basis, std::span<const float> z)
    : Merged(weights, basis, z, Merged(), [](int64_t count, const auto& work) {
        for (int64_t i = 0; i < count; ++i) work(i);
      }) {}

}  // namespace svfleet
