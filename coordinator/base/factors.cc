#include "coordinator/base/factors.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "comm/error.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/identity.h"
#include "worker/free_memory.h"
#include "worker/libtorch.h"
#include "worker/model/read_weight.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Before any work: `decompose` does not read the weights that it has factors of.
void check_shape(const SafetensorsFolder& files, const Target& target) {
  const std::vector<int64_t>& shape = files.at(target.name).shape;
  if (shape != std::vector<int64_t>{target.rows, target.cols})
    read_weight(files, target.name, {target.rows, target.cols}, at::kFloat);  // says what is wrong
}

// The tensors in the files, and the matrices that have another name or are a slice there.
std::vector<std::string> hashed_names(const SafetensorsFolder& files, const Architecture& arch) {
  std::vector<std::string> names = files.names();
  const std::set<std::string> in_files(names.begin(), names.end());
  for (int layer = 0; layer < arch.layers; ++layer)
    for (const std::string& kind : linear_kinds())
      if (const std::string name = weight_name(layer, kind);
          files.has(name) && !in_files.contains(name))
        names.push_back(name);
  return names;
}

// Of a new store of this model, whatever of it is decomposed first; of one that has lost its
// store.json, as its files are.
int64_t store_version(const FactorStore& store, const Architecture& arch) {
  int64_t version = 1;
  for (const Target& target : choose_targets({"all"}, "all", arch.layers, arch.linear_shapes())) {
    if (factor_version(target) == 1) continue;
    if (store.version_of(target) == 1) return 1;
    version = factor_version(target);
  }
  return version;
}

bool knows_all(const FactorStore::Manifest& manifest, const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return manifest.tensor_hashes.contains(name);
  });
}

// Collective. The manifest that rank 0 reads; where there is none, or the folder has changed since,
// the model is hashed. Nothing when stopped.
std::optional<FactorStore::Manifest> read_manifest(Crew& crew, const FactorStore& store,
                                                   const SafetensorsFolder& files,
                                                   const Architecture& arch, bool* changed) {
  const std::vector<std::string> names = hashed_names(files, arch);
  FactorStore::Manifest manifest;
  std::string bytes;
  const std::string fingerprint = files.quick_fingerprint();
  int32_t unknown[1] = {0};
  if (crew.leads()) {
    const bool there = store.load_manifest(&manifest);
    if (!there) manifest.version = store_version(store, arch);
    unknown[0] = !there || manifest.model_fingerprint != fingerprint || !knows_all(manifest, names);
  }
  crew.group().all_reduce_max(unknown, "look for model hashes");
  *changed = unknown[0];
  if (unknown[0]) {
    const auto hashes =
        crew.collect({"hash the model", "hash the model", "tensors", int64_t(names.size())},
                     [&](int64_t i, int64_t) { return files.tensor_hash(names[i]); });
    if (!hashes) return std::nullopt;
    manifest.tensor_hashes.clear();
    Hasher model;  // as SafetensorsFolder::content_hash makes it
    for (size_t i = 0; i < hashes->size(); ++i) {
      manifest.tensor_hashes[names[i]] = (*hashes)[i];
      if (i < files.names().size()) model.text(names[i]).text((*hashes)[i]);
    }
    manifest.model_hash = model.hex();
  }
  if (crew.leads()) {
    bytes = std::to_string(manifest.version) + "\n" + manifest.model_hash;
    for (const auto& [name, hash] : manifest.tensor_hashes) bytes += "\n" + name + "\n" + hash;
  }
  crew.group().broadcast(bytes, 0, "broadcast model hashes");
  manifest = {};
  std::istringstream lines(bytes);
  std::string version, name, hash;
  std::getline(lines, version);
  manifest.version = std::stoll(version);
  std::getline(lines, manifest.model_hash);
  manifest.model_fingerprint = fingerprint;
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

// What rank 0 is told of a matrix.
std::string told(const Factor& factor, bool made_now) {
  return json{{"orthogonality", factor.certificate.orthogonality},
              {"off_diagonal", factor.certificate.off_diagonal},
              {"predicted_error", factor.certificate.predicted_error},
              {"machine", factor.machine},
              {"made_now", made_now}}
      .dump();
}

class Decomposition {
 public:
  Decomposition(const Config& config, Crew& crew, const Architecture& architecture,
                const SafetensorsFolder& files, bool keep)
      : config_(config),
        architecture_(architecture),
        crew_(crew),
        files_(files),
        store_(store_folder(config)),
        storage_(type_of(config.svd.storage)),
        machine_(identity({torch_identity(), config.threads, crew.device().kind})),
        keep_(keep) {}

  std::optional<Decomposed> run(const ModelCheck& check) {
    if (!check) choose();
    bool changed = false;
    const auto manifest = read_manifest(crew_, store_, files_, architecture_, &changed);
    if (!manifest) return std::nullopt;
    if (check) {  // first: of another model the targets may not even be there
      if (!check(manifest->model_hash)) return std::nullopt;
      choose();
    }
    result_.made_from = *manifest;
    for (Target& target : targets_) target = in_version(target, manifest->version);
    if (!look()) return std::nullopt;
    const std::vector<int> missing = agree_on_missing();
    result_.any_missing = !missing.empty();
    if (crew_.leads()) settle(changed);
    if (!decompose_all(missing)) return std::nullopt;
    if (crew_.leads()) finish();
    crew_.group().barrier("end decompose");
    return std::move(result_);
  }

 private:
  void choose() {
    targets_ = targets_of(config_, architecture_);
    for (const Target& target : targets_) check_shape(files_, target);
    if (keep_ && !Core::is_decomposed(core_of(config_).kind)) targets_.clear();
    told_.resize(targets_.size());
  }

  const std::string& source_hash(const Target& target) const {
    return result_.made_from.tensor_hashes.at(target.name);
  }

  // Collective. Every file of the store is read once, by whoever is free. Rank 0 alone lists the
  // shared folder: other nodes may see an old listing. Sets told_ on rank 0.
  bool look() {
    std::string list;
    if (crew_.leads())
      for (size_t t = 0; t < targets_.size(); ++t)
        if (file_exists(store_.path(targets_[t]))) list += std::to_string(t) + " ";
    crew_.group().broadcast(list, 0, "list the factors");
    std::istringstream in(list);
    std::vector<int> there;
    for (int t; in >> t;) there.push_back(t);
    if (there.empty()) return true;
    const auto found =
        crew_.collect({"read the factors", "read the factors", "matrices", int64_t(there.size())},
                      [&](int64_t i, int64_t) { return look_at(targets_[there[i]]); });
    if (!found) return false;
    for (size_t i = 0; i < found->size(); ++i) {
      const std::string& one = (*found)[i];
      if (one.starts_with("{"))
        told_[there[i]] = one;
      else if (!one.empty())
        spdlog::warn("decomposing again: {}", one);
    }
    return true;
  }

  // As told() says it, or what is wrong with a damaged file.
  std::string look_at(const Target& target) {
    std::string why;
    auto factor = store_.find(target, source_hash(target), storage_, &why);
    if (!factor) return why;
    store_.check_certificate(*factor, config_.svd.tolerance);
    const std::string text = told(*factor, false);
    if (keep_) {
      std::lock_guard lock(mutex_);
      result_.at_hand[target.name] = std::move(*factor);
    }
    return text;
  }

  // Collective: the matrices without a factor, the longest work first.
  std::vector<int> agree_on_missing() {
    std::string list;
    if (crew_.leads())
      for (size_t t = 0; t < targets_.size(); ++t)
        if (told_[t].empty()) list += std::to_string(t) + " ";
    crew_.group().broadcast(list, 0, "list missing factors");
    std::istringstream in(list);
    std::vector<int> missing;
    for (int t; in >> t;) missing.push_back(t);
    const auto work = [&](int t) {  // of the eigensolver, and a little for reading
      const double k = double(targets_[t].basis_rows());
      return k * k * double(targets_[t].rows + targets_[t].cols);
    };
    std::stable_sort(missing.begin(), missing.end(),
                     [&](int a, int b) { return work(a) > work(b); });
    return missing;
  }

  // Rank 0. What the store is of stands in store.json before the first matrix: a restart need not
  // hash the model again, and no run with another storage type begins.
  void settle(bool changed) const {
    FactorStore::Manifest manifest = result_.made_from;
    if (result_.any_missing) {
      manifest.storage = config_.svd.storage;
      manifest.machines[hash_bytes(machine_)] = machine_;
      store_.settle(manifest);
      remove_stale_temporaries(store_.folder());
    } else if (changed) {
      try {
        store_.settle(manifest);
      } catch (const Error& error) {  // a store that can only be read serves too
        spdlog::warn(
            "the model's files have new times, which cannot be noted, so each start reads ",
            "them all: {}", error.what());
      }
    }
  }

  // So many at a time that the largest of them fit into what memory there is, shared with the ranks
  // of the same host. Nothing but time depends on it.
  int workers_that_fit(const std::vector<int>& missing) const {
    if (crew_.device().on_gpu()) return crew_.workers();
    int64_t most = 1;
    for (int t : missing) most = std::max(most, decompose_bytes(targets_[t]));
    const auto& hosts = crew_.hosts();
    const auto sharers = std::count(hosts.begin(), hosts.end(), crew_.group().host());
    const int64_t mine = free_memory() / 5 * 4 / sharers;
    const int fit = int(std::clamp<int64_t>(mine / most, 1, crew_.workers()));
    if (fit < crew_.workers())
      spdlog::info("decompose: {} of {} workers on host {}, for each may need {:.1f} GiB of {:.1f}",
                   fit, crew_.workers(), crew_.group().host(), double(most) / double(1 << 30),
                   double(mine) / double(1 << 30));
    return fit;
  }

  bool decompose_all(const std::vector<int>& missing) {
    if (missing.empty()) return true;
    if (keep_ && crew_.leads())  // hours for a large model, which nobody asked for by name
      spdlog::info(
          "{} of {} factors are missing in '{}': decomposing; set svd.store if you have them "
          "elsewhere",
          missing.size(), targets_.size(), store_.folder());
    const auto found =
        crew_.collect({.what = "decompose",
                       .label = "decompose",
                       .unit = "matrices",
                       .total = int64_t(missing.size()),
                       .most_workers = workers_that_fit(missing)},
                      [&](int64_t i, int64_t) { return decompose_one(targets_[missing[i]]); });
    if (!found) return false;
    for (size_t i = 0; i < found->size(); ++i) told_[missing[i]] = (*found)[i];
    return true;
  }

  std::string decompose_one(const Target& target) const {
    check_tensor(config_, result_.made_from, target.name, files_.tensor_hash(target.name));
    std::string why;  // has been told where it was looked for
    if (const auto theirs = store_.find(target, source_hash(target), storage_, &why)) {
      store_.check_certificate(*theirs, config_.svd.tolerance);
      return told(*theirs, false);
    }
    Factor factor =
        decompose(target,
                  read_weight(files_, target.name, {target.rows, target.cols}, at::kDouble)
                      .to(crew_.device().torch),
                  storage_);
    factor.source_hash = source_hash(target);
    factor.machine = hash_bytes(machine_);
    const bool first = store_.publish(factor);
    if (!first) {  // theirs is the one that counts
      const auto theirs = store_.find(target, source_hash(target), storage_, &why);
      if (!theirs) throw disk_error(why);
      factor = *theirs;
    }
    store_.check_certificate(factor, config_.svd.tolerance);
    return told(factor, first);
  }

  // Rank 0.
  void finish() {
    std::map<std::string, std::string> made_on;
    int64_t elsewhere = 0;
    for (size_t t = 0; t < targets_.size(); ++t) {
      const json one = json::parse(told_[t]);
      result_.certificates.push_back(
          {targets_[t].name,
           {one["orthogonality"], one["off_diagonal"], one["predicted_error"]},
           one["made_now"]});
      const std::string machine = one["machine"];
      if (machine.empty()) continue;
      made_on[targets_[t].name] = machine;
      elsewhere += machine != hash_bytes(machine_);
    }
    if (!result_.any_missing) return;
    store_.note_made(made_on);
    if (elsewhere > 0)
      spdlog::info(
          "{} of {} matrices in '{}' were decomposed by another run, on another kind of "
          "machine or by another build: they are used as they are",
          elsewhere, targets_.size(), store_.folder());
  }

  const Config& config_;
  const Architecture& architecture_;
  Crew& crew_;
  const SafetensorsFolder& files_;
  const FactorStore store_;
  const at::ScalarType storage_;
  std::vector<Target> targets_;
  std::vector<std::string> told_;  // on rank 0, by target: of its factor; empty: there is none
  const std::string machine_;      // identity of this one
  const bool keep_;
  std::mutex mutex_;
  Decomposed result_;
};

}  // namespace

std::optional<Decomposed> decompose_missing(const Config& config, Crew& crew,
                                            const Architecture& architecture,
                                            const SafetensorsFolder& files, bool keep,
                                            const ModelCheck& check) {
  return Decomposition(config, crew, architecture, files, keep).run(check);
}

void load_factors(const Config& config, Crew& crew, Decomposed decomposed, Base& base) {
  base.model_hash = decomposed.made_from.model_hash;
  for (const auto& [name, hash] : base.weights->tensor_hashes())
    check_tensor(config, decomposed.made_from, name, hash);
  const FactorStore store(store_folder(config));
  const std::vector<Target> targets = targets_of(config, base.weights->architecture());
  const CoreOptions core = core_of(config);
  if (!Core::is_decomposed(core.kind)) {
    base.basis = std::make_unique<Basis>(targets, *base.weights, core);
    return;
  }
  std::vector<Factor> factors(targets.size());
  std::vector<std::string> hashes(targets.size());
  crew.side_by_side(int64_t(targets.size()), [&](int64_t t) {
    const auto read = decomposed.at_hand.find(targets[t].name);
    factors[t] = read != decomposed.at_hand.end()
                     ? std::move(read->second)
                     : store.load(targets[t], "", config.svd.tolerance);
    hashes[t] = factor_hash(factors[t]);
  });
  for (size_t t = 0; t < targets.size(); ++t) base.factor_hashes[targets[t].name] = hashes[t];
  base.store_hash = factors_hash(base.factor_hashes);
  crew.agree("factor store", base.store_hash);
  base.basis = std::make_unique<Basis>(std::move(factors), *base.weights, core);
}

bool open_factors(const Config& config, Crew& crew, Base& base, const std::vector<Expert>& experts,
                  const std::vector<std::string>& paths) {
  const auto check = [&](const std::string& model_hash) {
    for (size_t i = 0; i < experts.size(); ++i)
      check_trained_on(config, base, model_hash, experts[i], paths[i], crew.leads());
    return true;
  };
  auto decomposed =
      decompose_missing(config, crew, base.weights->architecture(), base.weights->files(),
                        /*keep=*/true, check);
  if (!decomposed) return false;
  load_factors(config, crew, std::move(*decomposed), base);
  return true;
}

}  // namespace svfleet
