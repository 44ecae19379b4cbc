#include "coordinator/config/targets.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace svfleet {

std::vector<Target> targets_of(const Config& config, const Architecture& architecture) {
  return choose_targets(config.svd.targets, config.svd.layers, architecture.layers,
                        architecture.linear_shapes());
}

Config adapting(const std::vector<Expert>& experts, Config config) {
  std::set<std::string> kinds;
  std::set<int> layers;
  for (const Expert& expert : experts)
    for (const auto& [name, z] : expert.z) {
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
