// The expert as it is in force on this rank, with the receipt that every rollout carries.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "worker/model/adapter.h"

namespace svfleet {

struct Policy {
  std::vector<float> z;                      // [all r]
  std::unique_ptr<const ExpertTable> table;  // the base and z
  std::unique_ptr<Merged> merged;            // where it is
  Apply sampling = Apply::kFrozen;
  std::string hash;          // of names and z
  double changed_share = 0;  // of merged weights that differ from the policy before

  // Reads what this policy holds, which must stay.
  Adapter adapter(Apply kind) const { return {kind, table.get(), merged.get()}; }
  Adapter adapter() const { return adapter(sampling); }
};

// Puts z in force on this rank: builds the merged weights where `merge` (several matrices side by
// side), giving up those of the policy `before`. Replies come from the merged weights where
// `sampling` says so. With z = 1 everywhere the result is the base model bit for bit. `base` must
// stay.
Policy enforce(const Base& base, Crew& crew, const std::vector<float>& z, bool merge,
               Apply sampling = Apply::kMerged, Policy before = {});

// The hash of the z that a reply made now comes from: read back from W' where it is
// merged.
std::string hash_in_force(const Base& base, const Policy& policy);

// The base model itself.
Policy base_policy(const Base& base);

}  // namespace svfleet
