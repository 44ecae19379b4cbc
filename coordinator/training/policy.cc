#include "coordinator/training/policy.h"

namespace svfleet {

Policy enforce(const Base& base, Crew& crew, const std::vector<float>& z, Apply form,
               Policy before) {
  Policy policy;
  policy.z = z;
  ExpertTable table(*base.basis);
  policy.hash = table.hash(table.add(z));
  policy.table = std::make_unique<ExpertTable>(std::move(table));
  policy.form = form;
  if (form != Apply::kMerged) return policy;
  Merged old = before.merged ? std::move(*before.merged) : Merged();
  policy.merged = std::make_unique<Merged>(
      *base.weights, *base.basis, policy.z, std::move(old),
      [&](int64_t count, const auto& work) { crew.side_by_side(count, work); });
  policy.gain = policy.merged->gain();
  return policy;
}

Apply form_named(const std::string& name) {
  return name == "merged" ? Apply::kMerged : Apply::kActivation;
}

std::string hash_in_force(const Base& base, const Policy& policy) {
  return z_hash(
      as_expert(*base.basis, policy.form == Apply::kMerged ? policy.merged->z() : policy.z));
}

Policy base_policy(const Base& base) {
  Policy policy;
  policy.z = base.basis->at_rest();
  policy.hash = z_hash(as_expert(*base.basis, policy.z));
  return policy;
}

}  // namespace svfleet
