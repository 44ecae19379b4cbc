// The singular bases of the matrices that an expert scales: Q and sigma of each target, and how z
// lies in a flat vector. It reads the weights' type and device; weights know nothing of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "svd/factor.h"
#include "worker/model/weights.h"

namespace svfleet {

class Basis {
 public:
  Basis() = default;  // no targets: the base model alone
  // `factors` in the order of the flat z vector. Q is held in the types that are read: as stored,
  // for merging, and in the model's type, for changes to activations.
  Basis(std::vector<Factor> factors, const Weights& weights);
  Basis(const Basis&) = delete;
  Basis& operator=(const Basis&) = delete;

  const std::vector<Target>& targets() const { return targets_; }
  const std::vector<std::vector<double>>& sigmas() const { return sigmas_; }
  // The target that is this linear of this layer, -1 where it is none.
  int find(int layer, int linear) const;

  const at::Tensor& stored_q(size_t t) const { return stored_q_[t]; }  // [r, r]
  const at::Tensor& q(size_t t) const { return q_[t]; }                // [r, r], the model's type
  // z - 1 of target t [r], float32 (float64 for a float64 model), beside Q. `z`: [all r].
  at::Tensor change_of(size_t t, std::span<const float> z) const;

  // All that no step may change here.
  NamedTensors frozen() const;

 private:
  std::vector<Target> targets_;
  std::vector<std::vector<double>> sigmas_;
  std::vector<at::Tensor> stored_q_, q_;
  std::vector<std::vector<int>> by_layer_;  // [layer][linear]
  at::ScalarType wide_ = at::kFloat;
};

// z of all targets, as an expert without metadata.
Expert as_expert(const Basis& basis, std::span<const float> z);

}  // namespace svfleet
