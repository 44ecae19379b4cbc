// The merged weights W' of one z.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "worker/model/basis.h"
#include "worker/model/weights.h"

namespace svfleet {

// Calls work(0..count-1), in threads or not.
using SideBySide = std::function<void(int64_t count, const std::function<void(int64_t)>& work)>;

// W' of one target, plain [m, n] as all three: W, what z adds (wide), and their sum as add_keyed
// rounds it.
struct MergedWeight {
  at::Tensor base, change, sum;
};
// For z [all r] with this z_hash. Undefined where z leaves W: it is 1 for this target, or it is of
// a core that changes no weights.
MergedWeight merged_weight(const Weights& weights, const Basis& basis, size_t t,
                           std::span<const float> z, const std::string& hash);

class Merged {
 public:
  Merged() = default;  // nothing merged
  // W' of every target for z [all r]: W + W C (right) or W + C W (left), C = Q diag(z - 1) Q^T,
  // with the change in float32 and added as add_keyed does, by a key of z, target and row: one
  // expert has one W' everywhere, and small changes arrive on average. z = 1 gives W.
  // `before` is given up matrix by matrix, so that beside W' no more than one a thread is held.
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
         const SideBySide& side_by_side);
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z);
  Merged(Merged&&) = default;
  Merged& operator=(Merged&&) = default;

  const Basis& basis() const { return *basis_; }
  const Matrix& weight(size_t t) const { return weights_[t]; }  // of target t, [m, n], packed
  // What some cores add to W' x + bias before its only rounding: [outputs] wide, or undefined.
  const at::Tensor& added(size_t t) const { return added_[t]; }
  // [all r], target by target as W' are: read by the receipts.
  const std::vector<float>& z() const { return z_; }
  const std::string& hash() const { return hash_; }  // z_hash of it
  // <W' - W, change> / |change|^2, of sampled rows of all targets: 1 where z's change has arrived
  // whole; NaN where there is none.
  double gain() const { return gain_; }

 private:
  const Basis* basis_ = nullptr;
  std::vector<Matrix> weights_;
  std::vector<at::Tensor> added_;
  std::vector<float> z_;
  std::string hash_;
  double gain_ = 0;
};

}  // namespace svfleet
