#include "coordinator/sharing/opened.h"

#include <algorithm>

#include "checkpoints/file.h"
#include "checkpoints/out_file.h"
#include "checkpoints/publish.h"
#include "comm/error.h"
#include "coordinator/base/factors.h"
#include "coordinator/config/targets.h"
#include "svd/store.h"
#include "worker/model/read_weight.h"

namespace svfleet {

std::optional<OpenedExpert> open_expert(const Config& config, Crew& crew, const std::string& path) {
  OpenedExpert opened{.path = expert_file(path),
                      .expert = load_expert(path),
                      .config = config,
                      .base = {},
                      .z = {}};
  crew.agree("expert", z_hash(opened.expert));
  opened.config = adapting({opened.expert}, config);
  opened.base = open_base(opened.config, crew);
  if (!open_factors(opened.config, crew, opened.base, {opened.expert}, {path})) return std::nullopt;
  opened.z = flat_z(opened.base, opened.expert, path);
  return opened;
}

bool OpenedExpert::moves(size_t t) const {
  const Core& core = base.basis->core();
  const auto begin = z.begin() + core.part(t).offset;
  return std::any_of(begin, begin + core.part(t).length,
                     [&](float one) { return one != core.at_rest(); });
}

Factor stored_factor(const OpenedExpert& opened, const Target& target) {
  return FactorStore(store_folder(opened.config))
      .load(target, opened.base.weights->tensor_hashes().at(target.name),
            opened.config.svd.tolerance);
}

at::Tensor exact_weight(const OpenedExpert& opened, const Target& target) {
  return read_weight(opened.base.weights->files(), target.name, {target.rows, target.cols},
                     at::kDouble);
}

std::string factors_hash_of(const OpenedExpert& opened) {
  if (!opened.base.basis->core().decomposed()) return "";
  std::map<std::string, std::string> used;
  for (const auto& [name, z] : opened.expert.z) used[name] = opened.base.factor_hashes.at(name);
  return factors_hash(used);
}

void check_new_file(const std::string& path) {
  if (file_exists(path))
    throw user_error("'", path, "' is there already; give another name, or remove it first");
  const OutFile can_be_written(path);
}

void save_new_expert(const std::string& path, const Expert& expert) {
  if (!publish_file(path, expert_bytes(expert), [] { return false; }))
    throw user_error("'", path,
                     "' came to be there meanwhile, and stays as it is; give another name");
}

}  // namespace svfleet
