// The merged weights W' of one z, and the z that each was built with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "worker/model/basis.h"
#include "worker/model/weights.h"

namespace svfleet {

// Calls work(0..count-1), in threads or not.
using SideBySide = std::function<void(int64_t count, const std::function<void(int64_t)>& work)>;

class Merged {
 public:
  Merged() = default;  // nothing merged
  // W' of every target for z [all r]. `before` is given up matrix by matrix, so that beside W' no
  // more than one matrix a thread is held.
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
         const SideBySide& side_by_side);
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z);
  Merged(Merged&&) = default;
  Merged& operator=(Merged&&) = default;

  const Basis& basis() const { return *basis_; }
  const at::Tensor& weight(size_t t) const { return weights_[t]; }  // of target t, [m, n]
  // [all r], target by target as they are: read by the receipts.
  const std::vector<float>& z() const { return z_; }
  // Of the entries of all W', how many differ from those of `before` (or of W).
  double changed_share() const { return changed_share_; }

 private:
  const Basis* basis_ = nullptr;
  std::vector<at::Tensor> weights_;
  std::vector<float> z_;
  double changed_share_ = 0;
};

}  // namespace svfleet
