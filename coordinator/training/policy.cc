#include "coordinator/training/policy.h"

#include "coordinator/training/shared_merge.h"

namespace svfleet {

Policy enforce(const Base& base, Crew& crew, const std::vector<float>& z, Apply form,
               Policy before) {
  Policy policy;
  policy.z = z;
  ExpertTable table(*base.basis);
  policy.hash = table.hash(table.add(z));
  policy.table = std::make_shared<ExpertTable>(std::move(table));
  policy.form = form;
  if (form != Apply::kMerged) return policy;
  Merged old = before.merged ? std::move(*before.merged) : Merged();
  SharedMerge made = merge_together(base, crew, policy.z, std::move(old));
  policy.merged = std::make_unique<Merged>(std::move(made.merged));
  policy.built_by_rank = std::move(made.built_by_rank);
  policy.gain = policy.merged->gain();
  return policy;
}

std::vector<Policy> enforce_beside(const Base& base, const std::vector<std::vector<float>>& z) {
  auto table = std::make_shared<ExpertTable>(*base.basis);
  std::vector<Policy> policies;
  for (const std::vector<float>& own : z) {
    Policy& policy = policies.emplace_back();
    policy.z = own;
    policy.entry = table->add(own);
    policy.hash = table->hash(policy.entry);
    policy.form = Apply::kActivation;
    policy.table = table;
  }
  return policies;
}

Apply form_named(const std::string& name) {
  return name == "merged" ? Apply::kMerged : Apply::kActivation;
}

std::string hash_in_force(const Base& base, const Policy& policy, int entry) {
  return z_hash(as_expert(
      *base.basis, policy.form == Apply::kMerged ? policy.merged->z() : policy.table->z(entry)));
}

Policy base_policy(const Base& base) {
  Policy policy;
  policy.z = base.basis->at_rest();
  policy.hash = z_hash(as_expert(*base.basis, policy.z));
  return policy;
}

}  // namespace svfleet
