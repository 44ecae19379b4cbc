// The expert as it is in force on this rank, with the receipt that every rollout carries.
#pragma once

#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"

namespace svfleet {

struct Policy {
  std::vector<float> z;       // [all r]
  std::vector<at::Tensor> d;  // z - 1 per target, for the activation form
  Apply sampling = Apply::kMerged;
  std::string hash;          // of names and z
  double changed_share = 0;  // of merged weights that differ from the policy before
};

// Puts z in force on this rank: builds the merged weights where `merge` (several matrices side by
// side) or drops them. Replies come from the merged weights where `sampling` says so. With z = 1
// everywhere the result is the base model bit for bit.
Policy enforce(Base& base, Crew& crew, const std::vector<float>& z, bool merge,
               Apply sampling = Apply::kMerged);

// The hash of the z that a reply made now comes from: read back from the model where it is merged.
std::string hash_in_force(const Base& base, const Policy& policy);

// The base model itself.
Policy base_policy(const Base& base);

}  // namespace svfleet
