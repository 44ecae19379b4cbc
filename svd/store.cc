#include "svd/store.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "checkpoints/claim.h"
#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/publish.h"
#include "comm/error.h"
#include "svd/eigensolver.h"

namespace svfleet {

namespace {

constexpr int64_t kFactorVersion = 2;

const char* storage_name(at::ScalarType type) {
  return type == at::kBFloat16 ? "bfloat16" : "float32";
}

// The target as the file has it.
Target check_belongs(const Hdf5Reader& file, const Target& asked, const std::string& source_hash,
                     const std::string& path) {
  if (file.text("format") != "svfleet-factor")
    throw user_error("'", path, "' is not a factor file; remove it and run svfleet decompose");
  if (file.integer("version") > kFactorVersion)
    throw user_error("'", path, "' was written by a newer svfleet (format version ",
                     file.integer("version"), "); use that version");
  const Target target = in_version(asked, file.integer("version"));
  if (file.text("name") != target.name)
    throw user_error("'", path, "' holds '", file.text("name"), "', not '", target.name,
                     "'; remove it and run svfleet decompose");
  if (!source_hash.empty() && file.text("source_hash") != source_hash)
    throw user_error("factor '", target.name, "' in '", path,
                     "' was made from another tensor than this model's; set svd.store to another "
                     "folder, or remove this store if no expert needs it");
  if (file.text("form") != form_name(target.form) || file.integer("rows") != target.rows ||
      file.integer("cols") != target.cols)
    throw user_error("factor '", target.name, "' in '", path, "' is of a ", file.integer("rows"),
                     " x ", file.integer("cols"), " matrix in ", file.text("form"),
                     " form; expected ", target.rows, " x ", target.cols, " in ",
                     form_name(target.form), " form");
  return target;
}

// Everything but the target itself, which check_belongs gives.
Factor read_factor(const Hdf5Reader& file, const Target& target) {
  Factor factor;
  factor.target = target;
  factor.source_hash = file.text("source_hash");
  if (file.has("machine")) factor.machine = file.text("machine");
  factor.certificate = {file.real("orthogonality"), file.real("off_diagonal"),
                        file.real("predicted_error")};
  const int64_t r = target.length();
  factor.q =
      at::empty({target.basis_rows(), r}, file.is_bfloat16("Q") ? at::kBFloat16 : at::kFloat);
  file.read_into("Q", factor.q.data_ptr(), factor.q.nbytes());
  factor.sigma = file.doubles("sigma");
  SVFLEET_CHECK(int64_t(factor.sigma.size()) == r, factor.sigma.size(), " sigmas for r = ", r);
  return factor;
}

// Whether the bytes of a file are not what was written; a disk that does not give them says nothing
// about that and is an Error.
bool is_damaged(const std::string& path) {
  std::string bytes = read_file(path);
  try {
    Hdf5Reader(std::move(bytes), path);
    return false;
  } catch (const Error& error) {
    if (error.code() != kExitDisk) throw;
    return true;
  }
}

}  // namespace

int64_t factor_version(const Target& target) {
  return target.form == on_smaller_side(target).form ? 1 : 2;
}

Target in_version(const Target& target, int64_t version) {
  return version == 1 ? on_smaller_side(target) : on_sharded_side(target);
}

std::string FactorStore::path(const Target& target) const {
  return folder_ + "/" + target.name + ".h5";
}

bool FactorStore::publish(const Factor& factor) const {
  make_folder(folder_);
  const int64_t r = factor.target.length(), k = factor.target.basis_rows();
  Hdf5Writer file;
  file.text("format", "svfleet-factor");
  file.integer("version", factor_version(factor.target));
  file.text("name", factor.target.name);
  file.text("form", form_name(factor.target.form));
  file.integer("rows", factor.target.rows);
  file.integer("cols", factor.target.cols);
  file.text("source_hash", factor.source_hash);
  file.text("libraries", "torch " TORCH_VERSION_TEXT ", " + eigensolver_identity());
  file.text("machine", factor.machine);
  at::Tensor q = factor.q.contiguous();
  if (q.scalar_type() == at::kBFloat16)
    file.bfloat16s("Q", {static_cast<const uint16_t*>(q.data_ptr()), size_t(k * r)}, {k, r});
  else
    file.floats("Q", {q.data_ptr<float>(), size_t(k * r)}, {k, r});
  file.doubles("sigma", factor.sigma, {r});
  file.real("orthogonality", factor.certificate.orthogonality);
  file.real("off_diagonal", factor.certificate.off_diagonal);
  file.real("predicted_error", factor.certificate.predicted_error);
  const std::string where = path(factor.target);
  return publish_file(where, file.finish(), [&] { return is_damaged(where); });
}

Factor FactorStore::load(const Target& target, const std::string& source_hash,
                         double tolerance) const {
  const std::string where = path(target);
  if (!file_exists(where))
    throw user_error("factor '", target.name, "' is missing in '", folder_,
                     "'; run svfleet decompose");
  Hdf5Reader file(read_file(where), where);
  Factor factor = read_factor(file, check_belongs(file, target, source_hash, where));
  check_certificate(factor, tolerance);
  return factor;
}

void FactorStore::check_certificate(const Factor& factor, double tolerance) const {
  if (!(factor.certificate.predicted_error <= tolerance))
    throw user_error("factor '", factor.target.name, "' in '", path(factor.target),
                     "' has a predicted error of ", factor.certificate.predicted_error,
                     ", above svd.tolerance ", tolerance,
                     "; decompose again with svd.storage: float32, or raise the tolerance");
}

std::optional<Factor> FactorStore::find(const Target& target, const std::string& source_hash,
                                        at::ScalarType storage, std::string* why) const {
  const std::string where = path(target);
  if (!file_exists(where)) return std::nullopt;
  std::string bytes = read_file(where);
  try {
    const Hdf5Reader file(std::move(bytes), where);
    const Target found = check_belongs(file, target, source_hash, where);
    const char* stored = file.is_bfloat16("Q") ? "bfloat16" : "float32";
    if (std::string(stored) == storage_name(storage)) return read_factor(file, found);
    throw user_error("factor '", target.name, "' in '", where, "' is stored as ", stored, ", not ",
                     storage_name(storage),
                     ": experts may need it as it is; set svd.store to another folder, or "
                     "svd.storage: ",
                     stored);
  } catch (const Error& error) {
    // A damaged file serves nobody; a whole one that is not ours is someone's.
    if (error.code() != kExitDisk) throw;
    *why = error.what();
  }
  return std::nullopt;
}

std::optional<int64_t> FactorStore::version_of(const Target& target) const {
  const std::string where = path(target);
  if (!file_exists(where) || is_damaged(where)) return std::nullopt;
  const Hdf5Reader file(read_file(where), where);
  if (!file.has("version")) return std::nullopt;
  return file.integer("version");
}

bool FactorStore::load_manifest(Manifest* manifest) const {
  if (!file_exists(manifest_path())) return false;
  nlohmann::json json = nlohmann::json::parse(read_file(manifest_path()), nullptr, false);
  if (json.is_discarded()) return false;  // made again by decompose
  if (!json.is_object() || json.value("format", nlohmann::json()) != "svfleet-factor-store")
    throw user_error("'", manifest_path(),
                     "' is not a factor store's description; set svd.store to ", "another folder");
  using Texts = std::map<std::string, std::string>;
  try {
    const int64_t version = json.at("version");
    if (version > kFactorVersion)
      throw user_error("'", manifest_path(), "' was written by a newer svfleet (format version ",
                       version, "); use that version");
    *manifest = {.version = version,
                 .model_hash = json.at("model_hash").get<std::string>(),
                 .model_fingerprint = json.at("model_fingerprint").get<std::string>(),
                 .tensor_hashes = json.at("tensor_hashes").get<Texts>(),
                 .storage = json.value("storage", ""),
                 .machines = {},
                 .made_on = json.value("made_on", Texts())};
    const nlohmann::json machines = json.value("machines", nlohmann::json::object());
    for (const auto& [hash, machine] : machines.items()) manifest->machines[hash] = machine.dump();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
  return true;
}

void FactorStore::update_manifest(const std::function<void(Manifest&)>& change) const {
  Manifest before, now;
  const auto read = [&] {
    now = before = {};
    if (load_manifest(&before)) now = before;
    change(now);
    return now == before;
  };
  if (read()) return;  // nothing to write, as in a store that is complete
  make_folder(folder_);
  const Claim claim(manifest_path());
  if (read()) return;
  nlohmann::json machines = nlohmann::json::object();
  for (const auto& [hash, identity] : now.machines)
    machines[hash] = nlohmann::json::parse(identity);
  nlohmann::json json = {{"format", "svfleet-factor-store"},
                         {"version", now.version},
                         {"model_hash", now.model_hash},
                         {"model_fingerprint", now.model_fingerprint},
                         {"tensor_hashes", now.tensor_hashes},
                         {"storage", now.storage},
                         {"machines", machines},
                         {"made_on", now.made_on}};
  claim.verify();
  write_file_atomic(manifest_path(), json.dump(1) + "\n");
}

void FactorStore::settle(const Manifest& manifest) const {
  update_manifest([&](Manifest& now) {
    if (!now.storage.empty() && !manifest.storage.empty() && now.storage != manifest.storage)
      throw user_error("the factors in '", folder_, "' are stored as ", now.storage, ", not ",
                       manifest.storage,
                       ": a store has one type; set svd.store to another folder, ",
                       "or svd.storage: ", now.storage);
    Manifest next = manifest;
    if (next.storage.empty()) next.storage = now.storage;
    next.machines.merge(now.machines);
    next.made_on = now.made_on;
    now = next;
  });
}

void FactorStore::note_made(const std::map<std::string, std::string>& made_on) const {
  update_manifest([&](Manifest& now) {
    for (const auto& [name, machine] : made_on) now.made_on[name] = machine;
  });
}

std::string factor_hash(const Factor& factor) {
  at::Tensor q = factor.q.cpu().contiguous();
  Hasher hasher;
  hasher.text(form_name(factor.target.form)).text(storage_name(q.scalar_type()));
  hasher.raw(q.data_ptr(), q.nbytes());
  hasher.raw(factor.sigma.data(), factor.sigma.size() * sizeof(double));
  return hasher.hex();
}

std::string factors_hash(const std::map<std::string, std::string>& factor_hashes) {
  Hasher hasher;
  for (const auto& [name, hash] : factor_hashes) hasher.text(name).text(hash);
  return hasher.hex();
}

}  // namespace svfleet
