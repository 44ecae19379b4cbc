// The expert as it is in force on this rank, with the receipt that every rollout carries.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "worker/model/adapter.h"

namespace svfleet {

struct Policy {
  std::vector<float> z;                      // the core's coefficients
  std::shared_ptr<const ExpertTable> table;  // the base and z, and those that are trained beside it
  int entry = kOnlyExpert;                   // of z in it
  std::unique_ptr<Merged> merged;            // where it is
  Apply form = Apply::kFrozen;
  std::string hash;  // of names and z
  // W' that each rank has built of it; nobody where nothing is merged.
  std::vector<int64_t> built_by_rank = {};
  // Of the merged weights, Merged::gain: how much of z's change has arrived in them. NaN where
  // nothing is merged.
  double gain = std::numeric_limits<double>::quiet_NaN();

  // Reads what this policy holds, which must stay.
  Adapter adapter() const { return {form, table.get(), merged.get()}; }
};

// Collective. Puts z in force in `form`, kMerged or kActivation: builds the merged weights
// (several matrices side by side, each once on a host), giving up those of the policy `before`.
// Sampling and gradient use the same form, so that both see the same policy to the bit. With z = 1
// everywhere the result is the base model bit for bit. `base` must stay.
Policy enforce(const Base& base, Crew& crew, const std::vector<float>& z, Apply form,
               Policy before = {});
// The same of several beside each other, by the order of `z`, in one table; in activation form.
std::vector<Policy> enforce_beside(const Base& base, const std::vector<std::vector<float>>& z);
Apply form_named(const std::string& name);  // merged, activation

// The hash of the z that replies by this entry of the policy's table come from: read back from W'
// where it is merged.
std::string hash_in_force(const Base& base, const Policy& policy, int entry);

// The base model itself.
Policy base_policy(const Base& base);

}  // namespace svfleet
