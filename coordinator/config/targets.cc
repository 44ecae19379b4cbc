#include "coordinator/config/targets.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "comm/error.h"
#include "svd/core_expert.h"

namespace svfleet {

std::vector<Target> targets_of(const Config& config, const Architecture& architecture) {
  return choose_targets(config.svd.targets, config.svd.layers, architecture.layers,
                        architecture.linear_shapes());
}

CoreOptions core_of(const Config& config) {
  const TrainConfig& train = config.train;
  CoreOptions options;
  options.kind = core_kind(train.core);
  options.parametrisation = parametrisation(train.parametrisation);
  SVFLEET_CHECK(read_components(config.svd.components, &options.components), config.svd.components);
  options.rank = train.core_rank;
  options.alpha = train.core_alpha;
  options.numbers = train.core_numbers;
  options.tied = train.core_tied;
  options.seed = uint64_t(train.seed);
  return options;
}

namespace {

// The settings that say of a configuration's core what the experts have.
void take_core(const std::vector<Expert>& experts, Config& config) {
  const Expert& first = experts.front();
  for (const Expert& expert : experts)
    if (expert.core != first.core)
      throw user_error("experts of different cores cannot be used beside each other: '",
                       first.core.empty() ? "diagonal" : first.core, "' and '",
                       expert.core.empty() ? "diagonal" : expert.core,
                       "'; name them one at a time");
  const CoreOptions options = core_of(first, "the first");
  config.train.core = core_name(options.kind);
  config.train.core_rank = options.rank;
  config.train.core_alpha = options.alpha;
  config.svd.components = components_text(options.components);
}

}  // namespace

Config adapting(const std::vector<Expert>& experts, Config config) {
  if (!experts.empty()) take_core(experts, config);
  std::set<std::string> kinds;
  std::set<int> layers;
  for (const Expert& expert : experts)
    for (const auto& [tensor, z] : expert.z) {
      const std::string name = weight_of(tensor);
      int layer = -1;
      const std::string begin = "model.layers.";
      if (name.starts_with(begin))
        std::from_chars(name.data() + begin.size(), name.data() + name.size(), layer);
      const auto kind = std::find_if(
          linear_kinds().begin(), linear_kinds().end(),
          [&](const std::string& one) { return layer >= 0 && weight_name(layer, one) == name; });
      if (kind == linear_kinds().end()) return config;
      kinds.insert(*kind);
      layers.insert(layer);
    }
  if (kinds.empty()) return config;
  config.svd.targets.assign(kinds.begin(), kinds.end());
  config.svd.layers.clear();
  for (const int layer : layers)
    config.svd.layers += (config.svd.layers.empty() ? "" : ",") + std::to_string(layer);
  return config;
}

std::string store_folder(const Config& config) {
  if (!config.svd.store.empty()) return config.svd.store;
  std::string path = config.model.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".factors";
}

}  // namespace svfleet
