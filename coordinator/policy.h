// The expert as it is in force on this rank, with the receipt that every rollout carries.
#pragma once

#include <string>
#include <vector>

#include "coordinator/base.h"
#include "coordinator/crew.h"

namespace svfleet {

struct Policy {
  std::vector<float> z;       // [all r]
  std::vector<at::Tensor> d;  // z - 1 per target, for the activation form
  Apply sampling = Apply::kMerged;
  std::string hash;          // of names and z: what is in force, not what was asked for
  double changed_share = 0;  // of merged weights that differ from the policy before
};

// Puts z in force on this rank: builds the merged weights where `merged` (several matrices side by
// side) or drops them. With z = 1 everywhere the result is the base model bit for bit.
Policy enforce(Base& base, Crew& crew, const std::vector<float>& z, bool merged);

// The base model itself.
Policy base_policy(const Base& base);

}  // namespace svfleet
