#include "worker/model/basis.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {

Basis::Basis(std::vector<Factor> factors, const Weights& weights)
    : by_layer_(size_t(weights.architecture().layers), std::vector<int>(linear_kinds().size(), -1)),
      wide_(weights.wide_type()),
      device_(weights.device()) {
  const auto& kinds = linear_kinds();
  const InStage loading(Stage::kLoad);
  for (Factor& factor : factors) {
    enter(Stage::kLoad);
    const Target& target = factor.target;
    size_t kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
    SVFLEET_CHECK(target.layer < weights.architecture().layers && kind < kinds.size(), target.name);
    by_layer_[target.layer][kind] = int(targets_.size());
    targets_.push_back(target);
    sigmas_.push_back(factor.sigma);
    q_.emplace_back(factor.q.to(weights.device(), weights.type()));
    factor.q.reset();
  }
}

int Basis::find(int layer, int linear) const {
  return by_layer_.empty() ? -1 : by_layer_[size_t(layer)][size_t(linear)];
}

at::Tensor Basis::change_of(size_t t, std::span<const float> z) const {
  SVFLEET_CHECK(int64_t(z.size()) == total_length(targets_), z.size(), " scales for ",
                total_length(targets_));
  const Target& target = targets_[t];
  at::Tensor d = at::empty({target.length()}, at::kFloat);
  for (int64_t i = 0; i < target.length(); ++i)
    d.data_ptr<float>()[i] = z[target.offset + i] - 1.0f;
  return d.to(device_, wide_);
}

NamedTensors Basis::frozen() const {
  NamedTensors all;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) all.emplace_back("'" + name + "'", tensor);
  };
  for (size_t t = 0; t < targets_.size(); ++t) {
    add("Q of " + targets_[t].name, q_[t].plain_if_kept());
    for (const at::Tensor& copy : q_[t].packed()) add("packed Q of " + targets_[t].name, copy);
    add("sigma of " + targets_[t].name, view_of(sigmas_[t]));
  }
  return all;
}

Expert as_expert(const Basis& basis, std::span<const float> z) {
  Expert expert;
  for (const Target& target : basis.targets())
    expert.z[target.name].assign(z.begin() + target.offset,
                                 z.begin() + target.offset + target.length());
  return expert;
}

}  // namespace svfleet
