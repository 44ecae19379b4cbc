#include "coordinator/training/policy.h"

#include <ATen/core/Tensor.h>

#include <atomic>

namespace svfleet {

Policy enforce(Base& base, Crew& crew, const std::vector<float>& z, bool merge, Apply sampling) {
  Model& model = *base.model;
  Policy policy;
  policy.z = z;
  policy.d = model.expert_tensors(z, /*differentiable=*/false);
  policy.sampling = merge ? sampling : Apply::kActivation;
  if (merge) {
    std::atomic<int64_t> changed = 0, all = 0;
    crew.side_by_side(int64_t(model.targets().size()), [&](int64_t t) {
      changed += model.merge_one(size_t(t), policy.z);
      all += model.targets()[t].rows * model.targets()[t].cols;
    });
    policy.changed_share = double(changed) / double(all);
  } else {
    model.unmerge();
  }
  policy.hash = z_hash(as_expert(model, policy.z));
  return policy;
}

std::string hash_in_force(const Base& base, const Policy& policy) {
  return z_hash(as_expert(*base.model,
                          policy.sampling == Apply::kMerged ? base.model->merged_z() : policy.z));
}

Policy base_policy(const Base& base) {
  Policy policy;
  policy.z.assign(total_length(base.model->targets()), 1.0f);
  policy.sampling = Apply::kFrozen;
  policy.hash = z_hash(as_expert(*base.model, policy.z));
  return policy;
}

}  // namespace svfleet
