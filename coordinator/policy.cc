#include "coordinator/policy.h"

#include <ATen/core/Tensor.h>

#include <atomic>

namespace svfleet {

Policy enforce(Base& base, Crew& crew, const std::vector<float>& z, bool merged) {
  Model& model = *base.model;
  Policy policy;
  policy.z = z;
  policy.d = model.expert_tensors(z, /*differentiable=*/false);
  if (merged) {
    std::atomic<int64_t> changed = 0, all = 0;
    crew.side_by_side(int64_t(model.targets().size()), [&](int64_t t) {
      changed += model.merge_one(size_t(t), policy.z);
      all += model.targets()[t].rows * model.targets()[t].cols;
    });
    policy.changed_share = double(changed) / double(all);
  } else {
    model.unmerge();
    policy.sampling = Apply::kActivation;
  }
  policy.hash = z_hash(as_expert(model, policy.z));
  return policy;
}

Policy base_policy(const Base& base) {
  Policy policy;
  policy.z.assign(total_length(base.model->targets()), 1.0f);
  policy.sampling = Apply::kFrozen;
  policy.hash = z_hash(as_expert(*base.model, policy.z));
  return policy;
}

}  // namespace svfleet
