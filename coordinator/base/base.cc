#include "coordinator/base/base.h"

#include <algorithm>
#include <map>

#include "comm/error.h"
#include "svd/store.h"

namespace svfleet {

at::ScalarType type_of(const std::string& name) {
  return name == "float32" ? at::kFloat : at::kBFloat16;
}

Base open_base(const Config& config, Crew& crew) {
  Base base;
  base.model =
      std::make_unique<Model>(config.model.path, type_of(config.model.dtype), crew.device().torch);
  Texts texts = open_texts(config, base.model->architecture());
  base.tokenizer = std::move(texts.tokenizer);
  base.chat = std::move(texts.chat);
  base.weights_hash = base.model->weights_hash();
  crew.agree("model in memory", base.weights_hash);
  crew.agree("tokenizer", base.tokenizer->content_hash());
  return base;
}

std::vector<MatrixSlot> slots(const Model& model) {
  std::vector<MatrixSlot> slots;
  for (const Target& target : model.targets())
    slots.push_back({target.name, target.offset, target.length()});
  return slots;
}

Expert as_expert(const Model& model, const std::vector<float>& z) {
  Expert expert;
  for (const Target& target : model.targets())
    expert.z[target.name].assign(z.begin() + target.offset,
                                 z.begin() + target.offset + target.length());
  return expert;
}

std::vector<float> flat_z(const Base& base, const Expert& expert, const std::string& path) {
  const auto of = [&](const char* key) {
    auto it = expert.metadata.find(key);
    return it == expert.metadata.end() ? std::string() : it->second;
  };
  if (!of("model_hash").empty() && of("model_hash") != base.model_hash)
    throw user_error("expert '", path, "' was trained on base model ", of("model_hash"),
                     ", not on ", base.model_hash, "; use the base model that it was trained on");
  const std::vector<Target>& targets = base.model->targets();
  std::vector<float> z(total_length(targets), 1.0f);
  size_t used = 0;
  for (const Target& target : targets) {
    auto it = expert.z.find(target.name);
    if (it == expert.z.end()) continue;
    if (int64_t(it->second.size()) != target.length())
      throw user_error("expert '", path, "': z of '", target.name, "' has ", it->second.size(),
                       " entries, the matrix needs ", target.length());
    std::copy(it->second.begin(), it->second.end(), z.begin() + target.offset);
    ++used;
  }
  if (used != expert.z.size())
    for (const auto& [name, values] : expert.z)
      if (std::none_of(targets.begin(), targets.end(),
                       [&](const Target& target) { return target.name == name; }))
        throw user_error("expert '", path, "' adapts '", name,
                         "', which is not among svd.targets and svd.layers; widen them");
  // Only now: an expert of other matrices would have another hash for that reason alone.
  std::map<std::string, std::string> used_factors;
  for (const auto& [name, values] : expert.z) used_factors[name] = base.factor_hashes.at(name);
  if (!of("store_hash").empty() && of("store_hash") != factors_hash(used_factors))
    throw user_error("expert '", path, "' was trained on factor store ", of("store_hash"),
                     ", not on ", factors_hash(used_factors),
                     "; use the factor store that it was trained on");
  return z;
}

Prompt make_prompt(const Base& base, const TaskSpec& spec, const Item& item, int64_t key) {
  return make_prompt(*base.tokenizer, base.chat.get(), spec, item, key);
}

}  // namespace svfleet
