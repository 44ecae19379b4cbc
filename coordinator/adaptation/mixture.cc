#include "coordinator/adaptation/mixture.h"

#include <nlohmann/json.hpp>
#include <numeric>

namespace svfleet {

using nlohmann::json;

Expert mixture_expert(const Base& base, const OpenedSet& opened, const FirstPass& pass,
                      const Task& shots, uint64_t seed) {
  const MixtureSearch& search = *pass.search;
  json parts = json::array();
  for (size_t k = 0; k < opened.z.size(); ++k)
    parts.push_back({{"label", opened.set.members[k].label},
                     {"share", search.shares[k]},
                     {"z_hash", opened.hashes[k]}});
  const double together = std::accumulate(search.shares.begin(), search.shares.end(), 0.0);
  const json recipe = {{"experts", parts},
                       {"base", 1 - together},
                       {"shots", shots.items.size()},
                       {"shots_hash", shots.content_hash},
                       {"seed", seed},
                       {"candidates", search.candidates},
                       {"score", search.mixture.score}};
  Expert expert = as_expert(*base.basis, pass.policy.z);
  expert.metadata = {{"model_hash", base.model_hash},
                     {"store_hash", base.store_hash},
                     {"parametrisation", "direct"},
                     {"task", shots.spec.name},
                     {"config_hash", base.hashes.config},
                     {"config_shape", base.hashes.shape},
                     {"tokenizer_hash", base.hashes.tokenizer},
                     {"mixture", recipe.dump()}};
  if (base.chat) expert.metadata["chat_template_hash"] = base.hashes.chat_template;
  return expert;
}

}  // namespace svfleet
