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
  // `factors` in the order of the flat z vector. Q is held in the model's type: in bfloat16
  // the change that z makes is then good to 1.4e-4 of W at z in 1 +- 0.1, a tenth of what rounding
  // W' costs.
  Basis(std::vector<Factor> factors, const Weights& weights);
  Basis(const Basis&) = delete;
  Basis& operator=(const Basis&) = delete;

  const std::vector<Target>& targets() const { return targets_; }
  const std::vector<std::vector<double>>& sigmas() const { return sigmas_; }
  // The target that is this linear of this layer, -1 where it is none.
  int find(int layer, int linear) const;

  const Matrix& q(size_t t) const { return q_[t]; }  // [r, r], the model's type
  // z - 1 of target t [r], float32 (float64 for a float64 model), on the model's
  // device. `z`: [all r].
  at::Tensor change_of(size_t t, std::span<const float> z) const;

  // All that no step may change here.
  NamedTensors frozen() const;

 private:
  std::vector<Target> targets_;
  std::vector<std::vector<double>> sigmas_;
  std::vector<Matrix> q_;
  std::vector<std::vector<int>> by_layer_;  // [layer][linear]
  at::ScalarType wide_ = at::kFloat;
  at::Device device_ = at::kCPU;
};

// z of all targets, as an expert without metadata.
Expert as_expert(const Basis& basis, std::span<const float> z);

}  // namespace svfleet
