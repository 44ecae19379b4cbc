#include "worker/model/basis.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/kernels/elementwise.h"

namespace svfleet {

Basis::Basis(std::vector<Factor> factors, const Weights& weights, const CoreOptions& core)
    : wide_(weights.wide_type()), device_(weights.device()) {
  std::vector<Target> targets;
  std::vector<std::vector<double>> sigmas;
  for (const Factor& factor : factors) {
    targets.push_back(factor.target);
    sigmas.push_back(factor.sigma);
  }
  core_ = Core(core, std::move(targets), std::move(sigmas));
  place(weights);
  const InStage loading(Stage::kLoad);
  for (size_t t = 0; t < factors.size(); ++t) {
    enter(Stage::kLoad);
    at::Tensor& q = factors[t].q;
    if (core.kind != CoreKind::kDiagonal) {
      const Core::Range chosen = core_.chosen(t);
      q = q.narrow(1, chosen.first, chosen.count).contiguous();
    }
    q_.emplace_back(q.to(weights.device(), weights.type()));
    q.reset();
  }
  chosen_.resize(q_.size());
  last_.resize(q_.size());
}

Basis::Basis(std::vector<Target> targets, const Weights& weights, const CoreOptions& core)
    : core_(core, std::move(targets), {}), wide_(weights.wide_type()), device_(weights.device()) {
  SVFLEET_CHECK(!core_.decomposed(), "no factors for a core of kind ", core_name(core.kind));
  place(weights);
}

void Basis::choose_columns(size_t t) const {
  if (core_.kind() != CoreKind::kDiagonal) return;
  if (core_.options().components.which == Components::kAll) return;
  const Core::Range chosen = core_.chosen(t);
  std::vector<bool> moved(size_t(targets()[t].length()), false);
  std::fill_n(moved.begin() + chosen.first, chosen.count, true);
  auto columns = columns_of(q_[t], block_places(moved));
  std::lock_guard lock(mutex_);
  chosen_[t] = std::move(columns);
}

std::shared_ptr<const QColumns> Basis::columns(size_t t, const std::vector<bool>& moved) const {
  std::vector<int64_t> places = block_places(moved);
  const auto holds = [&](const std::shared_ptr<const QColumns>& some) {
    return some &&
           std::includes(some->places.begin(), some->places.end(), places.begin(), places.end());
  };
  {
    std::lock_guard lock(mutex_);
    if (holds(chosen_[t])) return chosen_[t];
  }
  if (places.empty()) {  // any will do
    std::vector<bool> first(moved.size(), false);
    first[0] = true;
    places = block_places(first);
  }
  if (2 * places.size() > moved.size()) return nullptr;
  std::lock_guard lock(mutex_);
  if (!last_[t] || last_[t]->places != places) last_[t] = columns_of(q_[t], places);
  return last_[t];
}

void Basis::place(const Weights& weights) {
  const auto& kinds = linear_kinds();
  by_layer_.assign(size_t(weights.architecture().layers), std::vector<int>(kinds.size(), -1));
  for (size_t t = 0; t < targets().size(); ++t) {
    const Target& target = targets()[t];
    const size_t kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
    SVFLEET_CHECK(target.layer < weights.architecture().layers && kind < kinds.size(), target.name);
    by_layer_[target.layer][kind] = int(t);
  }
}

int Basis::find(int layer, int linear) const {
  return by_layer_.empty() ? -1 : by_layer_[size_t(layer)][size_t(linear)];
}

std::vector<float> Basis::at_rest() const {
  return std::vector<float>(size_t(size()), core_.at_rest());
}

at::Tensor Basis::change_of(size_t t, std::span<const float> z) const {
  SVFLEET_CHECK(int64_t(z.size()) == size(), z.size(), " coefficients for ", size());
  const Core::Part part = core_.part(t);
  at::Tensor d = at::empty({part.length}, at::kFloat);
  for (int64_t i = 0; i < part.length; ++i)
    d.data_ptr<float>()[i] = z[size_t(part.offset + i)] - core_.at_rest();
  return d.to(device_, wide_);
}

NamedTensors Basis::frozen() const {
  NamedTensors all;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) all.emplace_back("'" + name + "'", tensor);
  };
  std::lock_guard lock(mutex_);
  for (size_t t = 0; t < q_.size(); ++t) {
    const std::string& name = targets()[t].name;
    add("Q of " + name, q_[t].plain_if_kept());
    for (const at::Tensor& copy : q_[t].packed()) add("packed Q of " + name, copy);
    for (const auto& columns : {chosen_[t], last_[t]})
      if (columns)
        for (const at::Tensor& copy : columns->q.packed())
          add("packed columns of Q of " + name, copy);
    add("sigma of " + name, view_of(sigmas()[t]));
  }
  return all;
}

Expert as_expert(const Basis& basis, std::span<const float> z) {
  return as_expert(basis.core(), z);
}

namespace {

// The first 64 bits of a hash in hexadecimal digits.
uint64_t key_of(const std::string& hash) {
  SVFLEET_CHECK(hash.size() >= 16, "hash '", hash, "'");
  return std::stoull(hash.substr(0, 16), nullptr, 16);
}

}  // namespace

std::vector<uint64_t> rounding_keys(const Basis& basis, std::span<const float> z) {
  const Core& core = basis.core();
  Expert moved = as_expert(core, z);
  std::vector<size_t> targets;
  for (size_t t = 0; t < basis.targets().size(); ++t) {
    const auto own = z.subspan(size_t(core.part(t).offset), size_t(core.part(t).length));
    if (std::any_of(own.begin(), own.end(), [&](float x) { return x != core.at_rest(); }))
      targets.push_back(t);
    else
      for (const ExpertTensor& tensor : tensors_of(core, t)) moved.z.erase(tensor.name);
  }
  const uint64_t key = key_of(z_hash(moved));
  std::vector<uint64_t> keys(basis.targets().size(), 0);
  for (size_t place = 0; place < targets.size(); ++place)
    keys[targets[place]] = mix(key, uint64_t(place));
  return keys;
}

}  // namespace svfleet
