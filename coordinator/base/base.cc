#include "coordinator/base/base.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>

#include "comm/error.h"
#include "svd/store.h"

namespace svfleet {

at::ScalarType type_of(const std::string& name) {
  return name == "float32" ? at::kFloat : at::kBFloat16;
}

Base open_base(const Config& config, Crew& crew) {
  Base base;
  base.weights = std::make_unique<Weights>(config.model.path, type_of(config.model.dtype),
                                           crew.device().torch, config.model.max_length);
  base.basis = std::make_unique<Basis>();
  Texts texts = open_texts(config, base.weights->architecture());
  base.tokenizer = std::move(texts.tokenizer);
  base.chat = std::move(texts.chat);
  base.hashes = folder_hashes(base.weights->architecture(), *base.tokenizer, base.chat.get());
  base.weights_hash = base.weights->hash();
  crew.agree("model in memory", base.weights_hash);
  crew.agree("tokenizer", base.tokenizer->content_hash());
  return base;
}

NamedTensors frozen(const Base& base) {
  NamedTensors all = base.weights->frozen();
  for (auto& tensor : base.basis->frozen()) all.push_back(std::move(tensor));
  return all;
}

std::vector<MatrixSlot> slots(const Basis& basis) {
  std::vector<MatrixSlot> slots;
  for (const Core::Slot& slot : basis.core().slots())
    slots.push_back({slot.name, slot.offset, slot.length});
  return slots;
}

namespace {

// Empty where it is missing, as in files of earlier versions.
std::string metadata(const Expert& expert, const char* key) {
  const auto found = expert.metadata.find(key);
  return found == expert.metadata.end() ? "" : found->second;
}

}  // namespace

void check_trained_on(const Config& config, const Base& base, const std::string& model_hash,
                      const Expert& expert, const std::string& path, bool leads) {
  const std::string trained_on = metadata(expert, "model_hash");
  if (!trained_on.empty() && trained_on != model_hash)
    throw user_error("expert '", path, "' was trained on base model ", trained_on, ", not on ",
                     model_hash, "; use the base model that it was trained on");
  const FolderHashes before = {metadata(expert, "config_hash"), metadata(expert, "tokenizer_hash"),
                               metadata(expert, "chat_template_hash"),
                               metadata(expert, "config_shape")};
  FolderHashes now = base.hashes;
  now.chat_template.clear();
  const std::vector<std::string> changed = changed_files(config.model.path, now, before);
  if (!changed.empty())
    throw user_error("expert '", path, "' was trained with another ", changed[0],
                     changed.size() > 1 ? " and " + changed[1] : "",
                     " than lies there now; put back what it was trained with");
  now.chat_template = base.hashes.chat_template;
  const std::vector<std::string> other = changed_files(config.model.path, now, before);
  if (leads && !other.empty())
    spdlog::warn("expert '{}' was trained with another chat template than '{}', {}", path,
                 base.chat->name(), "which is in use here: its replies may be others");
}

std::vector<float> flat_z(const Base& base, const Expert& expert, const std::string& path) {
  const Core& core = base.basis->core();
  std::vector<float> z = base.basis->at_rest();
  const std::string here = as_expert(core, z).core;
  if (expert.core != here)
    throw user_error("expert '", path, "' has the core '",
                     expert.core.empty() ? "diagonal" : expert.core, "', not '",
                     here.empty() ? "diagonal" : here,
                     "' as train.core and its settings ask for; set them to the expert's");
  std::set<std::string> used;
  for (size_t t = 0; t < core.targets().size(); ++t)
    for (const ExpertTensor& tensor : tensors_of(core, t)) {
      const auto it = expert.z.find(tensor.name);
      if (it == expert.z.end()) continue;
      int64_t length = 1;
      for (const int64_t size : tensor.shape) length *= size;
      if (int64_t(it->second.size()) != length ||
          (!here.empty() && expert.shapes.at(tensor.name) != tensor.shape))
        throw user_error("expert '", path, "': z of '", tensor.name, "' has ", it->second.size(),
                         " entries, the matrix needs ", length);
      std::copy(it->second.begin(), it->second.end(), z.begin() + tensor.offset);
      used.insert(tensor.name);
    }
  for (const auto& [name, values] : expert.z)
    if (!used.contains(name))
      throw user_error("expert '", path, "' adapts '", name,
                       "', which is not among svd.targets and svd.layers; widen them");
  if (!core.decomposed()) return z;
  // Only now: an expert of other matrices would have another hash for that reason alone.
  std::map<std::string, std::string> used_factors;
  for (const auto& [name, values] : expert.z) used_factors[name] = base.factor_hashes.at(name);
  const std::string store_hash = metadata(expert, "store_hash");
  if (!store_hash.empty() && store_hash != factors_hash(used_factors))
    throw user_error("expert '", path, "' was trained on factor store ", store_hash, ", not on ",
                     factors_hash(used_factors),
                     "; use the store that it was trained on, or make it again (other processors "
                     "give other bits unless OPENBLAS_CORETYPE is the same: docs/sharing.md), or "
                     "carry the expert over with svfleet rebase");
  return z;
}

Prompt make_prompt(const Base& base, const TaskSpec& spec, const Item& item, int64_t key) {
  return make_prompt(*base.tokenizer, base.chat.get(), spec, item, key);
}

}  // namespace svfleet
