// Experts beside each other, one entry each, of which the rows of a batch name theirs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/model/basis.h"

namespace svfleet {

// Entry 0 is the base; where a table has one expert, that is entry 1, and what names no entry means
// it.
constexpr int kBaseEntry = 0, kOnlyExpert = 1;

// A value: a copy does not see what is added to the other later.
class ExpertTable {
 public:
  explicit ExpertTable(const Basis& basis);  // which must stay; only the base

  int add(std::span<const float> z);  // [basis.size()]; returns its entry
  struct Part {
    int entry;
    double share;
  };
  // z = 1 + sum share (z_entry - 1), made once, so that a mixture costs what one expert costs. In
  // float64, rounded once: an expert file with this z is the same expert. Of other cores than SVF's
  // their coefficients are mixed likewise; Error(kExitUser) for LoRA, where that is no mixture.
  int add_mixture(const std::vector<Part>& parts);

  const Basis& basis() const { return *basis_; }
  int size() const { return int(hashes_.size()); }
  // z - 1 of target t [entries, r], or z of a core that rests at 0, float32 (float64 for a float64
  // model); row 0 is zero.
  const at::Tensor& d(size_t t) const { return d_[t]; }
  // What SVF's products with Q read of target t, of all entries together, so that it is a matter of
  // the table, not of who shares a batch; the bits are the same either way.
  struct Moved {
    std::shared_ptr<const QColumns> columns;  // that some entry moves; nullptr: all of Q
    at::Tensor d;                             // d(t) of these [entries, columns]
  };
  const Moved& moved(size_t t) const;  // made when it is first asked for. Thread-safe
  const std::vector<float>& z(int entry) const { return z_[size_t(entry)]; }
  // z_hash of its z: what a reply carries.
  const std::string& hash(int entry) const { return hashes_[size_t(entry)]; }

  // What keyed roundings of target t are drawn by: rounding_keys.
  uint64_t key(int entry, int t) const { return keys_[size_t(entry)][size_t(t)]; }

 private:
  struct MadeOnce;

  const Basis* basis_ = nullptr;
  std::vector<at::Tensor> d_;
  std::vector<std::vector<bool>> moves_;  // [target][r], by some entry
  std::shared_ptr<MadeOnce[]> made_;      // by target; another one with each entry
  std::vector<std::vector<float>> z_;     // [entry][all r]
  std::vector<std::string> hashes_;
  std::vector<std::vector<uint64_t>> keys_;  // [entry][target]
};

}  // namespace svfleet
