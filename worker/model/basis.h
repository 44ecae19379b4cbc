// What an expert changes, and in what: targets, their singular bases where they are read, and the
// core, by which the expert's numbers lie in a flat vector. It reads the weights' type and device;
// weights know nothing of it.
//
// The flat vector of an expert's coefficients is called z here whatever its core, as it is SVF's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "svd/core_expert.h"
#include "svd/factor.h"
#include "worker/model/q_columns.h"
#include "worker/model/weights.h"

namespace svfleet {

class Basis {
 public:
  Basis() = default;  // no targets: the base model alone
  // `factors` in the order of the flat z vector. Q is held in the model's type: in bfloat16
  // the change that z makes is then good to 1.4e-4 of W at z in 1 +- 0.1, a tenth of what rounding
  // W' costs.
  // Of a core that chooses components only their columns of Q are.
  Basis(std::vector<Factor> factors, const Weights& weights, const CoreOptions& core = {});
  // Of a core that reads no factors.
  Basis(std::vector<Target> targets, const Weights& weights, const CoreOptions& core);
  Basis(const Basis&) = delete;
  Basis& operator=(const Basis&) = delete;

  const Core& core() const { return core_; }
  const std::vector<Target>& targets() const { return core_.targets(); }
  const std::vector<std::vector<double>>& sigmas() const { return core_.sigmas(); }
  int64_t size() const { return core_.coefficients(); }  // of z
  std::vector<float> at_rest() const;                    // z of the base model
  // The target that is this linear of this layer, -1 where it is none.
  int find(int layer, int linear) const;

  const Matrix& q(size_t t) const { return q_[t]; }  // [basis_rows, r], or fewer columns; its type
  // Columns of Q(t) that hold all components that are `moved` [r], or nullptr: q_columns.h. Those
  // of the core's chosen components are made once, of others the last are kept. Thread-safe, as is
  // choose_columns, which makes the former, where entries of a table are going to be read.
  void choose_columns(size_t t) const;
  std::shared_ptr<const QColumns> columns(size_t t, const std::vector<bool>& moved) const;
  // z less what it is at rest, of target t, float32 (float64 for a float64 model), on the model's
  // device. `z`: [size()].
  at::Tensor change_of(size_t t, std::span<const float> z) const;

  // All that no step may change here.
  NamedTensors frozen() const;

 private:
  void place(const Weights& weights);

  Core core_;
  std::vector<Matrix> q_;  // empty where no factors are read
  mutable std::mutex mutex_;
  // By target; under the mutex.
  mutable std::vector<std::shared_ptr<const QColumns>> chosen_, last_;
  std::vector<std::vector<int>> by_layer_;  // [layer][linear]
  at::ScalarType wide_ = at::kFloat;
  at::Device device_ = at::kCPU;
};

// An expert without metadata: docs/formats.md has the names of its tensors.
Expert as_expert(const Basis& basis, std::span<const float> z);

// By what the changes of z [size()] are rounded, one for each target. A matter of what z moves
// alone: an expert has the same ones, and so one W', whatever other targets the basis has for
// others.
std::vector<uint64_t> rounding_keys(const Basis& basis, std::span<const float> z);

}  // namespace svfleet
