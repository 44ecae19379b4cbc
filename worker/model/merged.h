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
// For z [all r], whose key for t is one of rounding_keys(). Undefined where z leaves W: it is 1 for
// this target, or it is of a core that changes no weights.
MergedWeight merged_weight(const Weights& weights, const Basis& basis, size_t t,
                           std::span<const float> z, uint64_t key);

// What one W' is to another process that has the same weights and the same z.
struct MergedPart {
  std::string hash;              // z_hash of the z that it was built with
  at::Tensor weight;             // plain [m, n], on the CPU; undefined where z leaves W
  double along = 0, wanted = 0;  // its share of the gain
};

class Merged {
 public:
  Merged() = default;  // nothing merged
  // W' of every target for z [all r]: W + W C (right) or W + C W (left), C = Q diag(z - 1) Q^T,
  // with the change in float32 and added as add_keyed does, by rounding_keys() and the row: one
  // expert has one W' everywhere, and small changes arrive on average. z = 1 gives W.
  // `before` is given up matrix by matrix, so that beside W' no more than one a thread is held.
  // Only those targets that are `wanted` are built (empty: all); the others are to be taken.
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z, Merged before,
         const SideBySide& side_by_side, const std::vector<bool>& wanted = {});
  Merged(const Weights& weights, const Basis& basis, std::span<const float> z);
  Merged(Merged&&) = default;
  Merged& operator=(Merged&&) = default;

  // W' of target t, as it was built here.
  MergedPart part(size_t t) const;
  // One that was built elsewhere, for this z. Error(kExitRequeue), of the machine, where it is of
  // another z; `giver` says who gave it.
  void take(const Weights& weights, std::span<const float> z, size_t t, const MergedPart& part,
            const std::string& giver);
  bool whole() const;     // every W' was built or taken
  int64_t built() const;  // W' that were built here and differ from W

  const Basis& basis() const { return *basis_; }
  const Matrix& weight(size_t t) const { return parts_[t].weight; }  // of target t, [m, n], packed
  // What some cores add to W' x + bias before its only rounding: [outputs] wide, or undefined.
  const at::Tensor& added(size_t t) const { return parts_[t].added; }
  // [all r], target by target as W' are: read by the receipts.
  const std::vector<float>& z() const { return z_; }
  const std::string& hash() const { return hash_; }  // z_hash of it
  // <W' - W, change> / |change|^2, of sampled rows of all targets: 1 where z's change has arrived
  // whole; NaN where there is none.
  double gain() const;

 private:
  struct Part {
    Matrix weight;
    at::Tensor added;
    double along = 0, wanted = 0;
    enum { kOld, kBuilt, kTaken } state = kOld;  // kOld: of the z before, if anything
    bool changed = false;                        // W' is not W
  };
  // What is the same whoever builds W' of target t; its W' of the z before is given up.
  Part begin(const Weights& weights, std::span<const float> z, size_t t);
  void build(const Weights& weights, std::span<const float> z, size_t t);

  const Basis* basis_ = nullptr;
  std::vector<Part> parts_;
  std::vector<float> z_;
  std::vector<uint64_t> keys_;  // rounding_keys
  std::string hash_;
};

// For each target, which of so many processes with the same weights builds its W' for z: each
// about as much as the others. -1 where z leaves W, which is every one's own.
std::vector<int> merge_shares(const Basis& basis, std::span<const float> z, int processes);

}  // namespace svfleet
