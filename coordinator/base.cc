#include "coordinator/base.h"

#include <spdlog/spdlog.h>
#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "comm/error.h"
#include "coordinator/progress.h"
#include "svd/store.h"
#include "worker/weights.h"

namespace svfleet {
namespace {

at::ScalarType type_of(const std::string& name) {
  return name == "float32" ? at::kFloat : at::kBFloat16;
}

// Before any work: `decompose` does not read the weights that it has factors of.
void check_shape(const SafetensorsFolder& files, const Target& target) {
  const std::vector<int64_t>& shape = files.at(target.name).shape;
  if (shape != std::vector<int64_t>{target.rows, target.cols})
    read_weight(files, target.name, {target.rows, target.cols}, at::kFloat);  // says what is wrong
}

// Collective. The manifest that rank 0 reads; where there is none, or the folder has changed since,
// the model is hashed. Nothing when stopped.
std::optional<FactorStore::Manifest> read_manifest(Crew& crew, const FactorStore& store,
                                                   const SafetensorsFolder& files) {
  FactorStore::Manifest manifest;
  std::string bytes;
  const std::string fingerprint = files.quick_fingerprint();
  int32_t unknown[1] = {0};
  if (crew.leads())
    unknown[0] = !store.load_manifest(&manifest) || manifest.model_fingerprint != fingerprint;
  crew.group().all_reduce_max(unknown, "look for model hashes");
  if (unknown[0]) {
    const std::vector<std::string>& names = files.names();
    const auto hashes =
        crew.collect({"hash the model", "hash the model", "tensors", int64_t(names.size())},
                     [&](int64_t i, int64_t) { return files.tensor_hash(names[i]); });
    if (!hashes) return std::nullopt;
    manifest.tensor_hashes.clear();
    Hasher model;  // as SafetensorsFolder::content_hash makes it
    for (size_t i = 0; i < hashes->size(); ++i) {
      manifest.tensor_hashes[names[i]] = (*hashes)[i];
      model.text(names[i]).text((*hashes)[i]);
    }
    manifest.model_hash = model.hex();
  }
  if (crew.leads()) {
    bytes = manifest.model_hash;
    for (const auto& [name, hash] : manifest.tensor_hashes) bytes += "\n" + name + "\n" + hash;
  }
  crew.group().broadcast(bytes, 0, "broadcast model hashes");
  std::istringstream lines(bytes);
  std::string name, hash;
  std::getline(lines, manifest.model_hash);
  manifest.model_fingerprint = fingerprint;
  manifest.tensor_hashes.clear();
  while (std::getline(lines, name) && std::getline(lines, hash))
    manifest.tensor_hashes[name] = hash;
  return manifest;
}

// Sizes and times, which read_manifest looks at, do not show what a bad disk or memory has changed.
void check_tensor(const Config& config, const FactorStore::Manifest& manifest,
                  const std::string& name, const std::string& hash) {
  const auto first = manifest.tensor_hashes.find(name);
  if (first == manifest.tensor_hashes.end() || first->second == hash) return;
  throw disk_error("tensor '", name, "' of '", config.model.path, "' has changed since '",
                   store_folder(config), "' was made, and no file's time or size shows it: a bad ",
                   "disk or memory; put the model's files back");
}

}  // namespace

std::vector<Target> targets_of(const Config& config, const Architecture& architecture) {
  return choose_targets(config.svd.targets, config.svd.layers, architecture.layers,
                        architecture.linear_shapes());
}

std::string store_folder(const Config& config) {
  if (!config.svd.store.empty()) return config.svd.store;
  std::string path = config.model.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".factors";
}

Base open_base(const Config& config, Crew& crew) {
  Base base;
  base.model =
      std::make_unique<Model>(config.model.path, type_of(config.model.dtype), crew.device().torch);
  base.tokenizer = std::make_unique<Tokenizer>(Tokenizer::load(config.model.path));
  if (base.tokenizer->size() > base.model->architecture().vocabulary)
    throw user_error("'", config.model.path, "': tokenizer.json has ", base.tokenizer->size(),
                     " tokens, more than the model's vocab_size ",
                     base.model->architecture().vocabulary, "; the files do not belong together");
  bool any_chat = config.tasks.empty();
  for (const TaskSpec& task : config.tasks) any_chat = any_chat || task.chat;
  if (any_chat)
    base.chat = std::make_unique<ChatTemplate>(
        ChatTemplate::load(config.model.path, config.model.chat_template));
  base.weights_hash = base.model->weights_hash();
  crew.agree("model in memory", base.weights_hash);
  crew.agree("tokenizer", base.tokenizer->content_hash());
  return base;
}

bool decompose_missing(const Config& config, Crew& crew, const Architecture& architecture,
                       const SafetensorsFolder& files, FactorStore::Manifest* made_from,
                       std::vector<NamedCertificate>* certificates, bool* any_missing) {
  const FactorStore store(store_folder(config));
  const at::ScalarType storage = type_of(config.svd.storage);
  const std::vector<Target> targets = targets_of(config, architecture);
  for (const Target& target : targets) check_shape(files, target);
  const auto read = read_manifest(crew, store, files);
  if (!read) return false;
  const FactorStore::Manifest& manifest = *made_from = *read;

  // Rank 0 alone looks at the shared folder: other nodes may see an old listing.
  std::vector<int> missing;
  if (crew.leads()) {
    std::vector<char> there(targets.size());
    std::vector<std::string> why(targets.size());
    crew.side_by_side(int64_t(targets.size()), [&](int64_t t) {
      there[t] =
          store.has(targets[t], manifest.tensor_hashes.at(targets[t].name), storage, &why[t]);
    });
    for (size_t t = 0; t < targets.size(); ++t) {
      if (there[t]) continue;
      if (!why[t].empty()) spdlog::warn("decomposing again: {}", why[t]);
      missing.push_back(int(t));
    }
    auto work = [&](int t) {  // of the eigensolver, and a little for reading
      double k = double(targets[t].length());
      return k * k * double(targets[t].rows + targets[t].cols);
    };
    std::stable_sort(missing.begin(), missing.end(),
                     [&](int a, int b) { return work(a) > work(b); });
  }
  if (any_missing) *any_missing = !missing.empty();
  if (crew.leads() && !missing.empty()) {
    make_folder(store.folder());
    remove_stale_temporaries(store.folder());
  }
  Progress progress({.label = "decompose",
                     .unit = "matrices",
                     .total = int64_t(missing.size()),
                     .shown = crew.leads() && !missing.empty()});
  bool done = crew.share(
      missing, "decompose",
      [&](int t) {
        const Target& target = targets[t];
        check_tensor(config, manifest, target.name, files.tensor_hash(target.name));
        Factor factor =
            decompose(target,
                      read_weight(files, target.name, {target.rows, target.cols}, at::kDouble)
                          .to(crew.device().torch),
                      storage);
        factor.source_hash = manifest.tensor_hashes.at(target.name);
        store.save(factor);
      },
      [&](const ShareReport& now) { progress.update(now.finished); });
  progress.finish();
  if (!done) return false;
  if (crew.leads()) {
    FactorStore::Manifest old;
    if (!missing.empty() || !store.load_manifest(&old) ||
        old.model_fingerprint != manifest.model_fingerprint)
      store.save_manifest(manifest);
    if (certificates)
      for (size_t t = 0; t < targets.size(); ++t) {
        Factor factor = store.load(targets[t], manifest.tensor_hashes.at(targets[t].name),
                                   config.svd.tolerance);
        certificates->push_back(
            {targets[t].name, factor.certificate,
             std::find(missing.begin(), missing.end(), int(t)) != missing.end()});
      }
  }
  crew.group().barrier("end decompose");
  return true;
}

bool open_factors(const Config& config, Crew& crew, Base& base) {
  FactorStore::Manifest manifest;
  if (!decompose_missing(config, crew, base.model->architecture(), base.model->files(), &manifest,
                         nullptr))
    return false;
  load_factors(config, crew, manifest, base);
  return true;
}

void load_factors(const Config& config, Crew& crew, const FactorStore::Manifest& manifest,
                  Base& base) {
  base.model_hash = manifest.model_hash;
  for (const auto& [name, hash] : base.model->tensor_hashes())
    check_tensor(config, manifest, name, hash);
  const FactorStore store(store_folder(config));
  const std::vector<Target> targets = targets_of(config, base.model->architecture());
  std::vector<Factor> factors(targets.size());
  std::vector<std::string> hashes(targets.size());
  crew.side_by_side(int64_t(targets.size()), [&](int64_t t) {
    factors[t] = store.load(targets[t], "", config.svd.tolerance);
    hashes[t] = factor_hash(factors[t]);
  });
  for (size_t t = 0; t < targets.size(); ++t) base.factor_hashes[targets[t].name] = hashes[t];
  base.store_hash = factors_hash(base.factor_hashes);
  crew.agree("factor store", base.store_hash);
  base.model->attach(std::move(factors));
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
  Prompt prompt;
  prompt.key = key;
  prompt.max_new_tokens = spec.max_new_tokens;
  prompt.stop = spec.stop;
  if (spec.chat)
    prompt.tokens = base.tokenizer->encode(base.chat->render(item.messages) + spec.prefill);
  else
    prompt.tokens =
        base.tokenizer->encode(item.messages.front().content + spec.prefill, /*special=*/true);
  return prompt;
}

}  // namespace svfleet
