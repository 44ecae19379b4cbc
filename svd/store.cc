#include "svd/store.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/hdf5_image.h"
#include "comm/error.h"

namespace svfleet {

namespace {

constexpr int64_t kFactorVersion = 1;

const char* storage_name(at::ScalarType type) {
  return type == at::kBFloat16 ? "bfloat16" : "float32";
}

void check_belongs(const Hdf5Reader& file, const Target& target, const std::string& source_hash,
                   const std::string& path) {
  if (file.text("format") != "svfleet-factor")
    throw user_error("'", path, "' is not a factor file; remove it and run svfleet decompose");
  if (file.integer("version") > kFactorVersion)
    throw user_error("'", path, "' was written by a newer svfleet (format version ",
                     file.integer("version"), "); use that version");
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
}

}  // namespace

std::string FactorStore::path(const Target& target) const {
  return folder_ + "/" + target.name + ".h5";
}

void FactorStore::save(const Factor& factor) const {
  make_folder(folder_);
  const int64_t r = factor.target.length();
  Hdf5Writer file;
  file.text("format", "svfleet-factor");
  file.integer("version", kFactorVersion);
  file.text("name", factor.target.name);
  file.text("form", form_name(factor.target.form));
  file.integer("rows", factor.target.rows);
  file.integer("cols", factor.target.cols);
  file.text("source_hash", factor.source_hash);
  file.text("libraries", "torch " TORCH_VERSION_TEXT);
  at::Tensor q = factor.q.contiguous();
  if (q.scalar_type() == at::kBFloat16)
    file.bfloat16s("Q", {static_cast<const uint16_t*>(q.data_ptr()), size_t(r * r)}, {r, r});
  else
    file.floats("Q", {q.data_ptr<float>(), size_t(r * r)}, {r, r});
  file.doubles("sigma", factor.sigma, {r});
  file.real("orthogonality", factor.certificate.orthogonality);
  file.real("off_diagonal", factor.certificate.off_diagonal);
  file.real("predicted_error", factor.certificate.predicted_error);
  write_file_atomic(path(factor.target), file.finish());
}

Factor FactorStore::load(const Target& target, const std::string& source_hash,
                         double tolerance) const {
  const std::string where = path(target);
  if (!file_exists(where))
    throw user_error("factor '", target.name, "' is missing in '", folder_,
                     "'; run svfleet decompose");
  Hdf5Reader file(read_file(where), where);
  check_belongs(file, target, source_hash, where);
  Factor factor;
  factor.target = target;
  factor.source_hash = file.text("source_hash");
  factor.certificate = {file.real("orthogonality"), file.real("off_diagonal"),
                        file.real("predicted_error")};
  if (!(factor.certificate.predicted_error <= tolerance))
    throw user_error("factor '", target.name, "' in '", where, "' has a predicted error of ",
                     factor.certificate.predicted_error, ", above svd.tolerance ", tolerance,
                     "; decompose again with svd.storage: float32, or raise the tolerance");
  const int64_t r = target.length();
  factor.q = at::empty({r, r}, file.is_bfloat16("Q") ? at::kBFloat16 : at::kFloat);
  file.read_into("Q", factor.q.data_ptr(), factor.q.nbytes());
  factor.sigma = file.doubles("sigma");
  SVFLEET_CHECK(int64_t(factor.sigma.size()) == r, factor.sigma.size(), " sigmas for r = ", r);
  return factor;
}

bool FactorStore::has(const Target& target, const std::string& source_hash, at::ScalarType storage,
                      std::string* why) const {
  const std::string where = path(target);
  if (!file_exists(where)) return false;
  try {
    Hdf5Reader file(read_file(where), where);
    check_belongs(file, target, source_hash, where);
    const char* stored = file.is_bfloat16("Q") ? "bfloat16" : "float32";
    if (std::string(stored) == storage_name(storage)) return true;
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
  return false;
}

void FactorStore::save_manifest(const Manifest& manifest) const {
  nlohmann::json json = {{"format", "svfleet-factor-store"},
                         {"version", kFactorVersion},
                         {"model_hash", manifest.model_hash},
                         {"model_fingerprint", manifest.model_fingerprint},
                         {"tensor_hashes", manifest.tensor_hashes}};
  write_file_atomic(folder_ + "/store.json", json.dump(1) + "\n");
}

bool FactorStore::load_manifest(Manifest* manifest) const {
  const std::string where = folder_ + "/store.json";
  if (!file_exists(where)) return false;
  nlohmann::json json = nlohmann::json::parse(read_file(where), nullptr, false);
  if (!json.is_object() || json.value("format", "") != "svfleet-factor-store") return false;
  try {
    manifest->model_hash = json.at("model_hash").get<std::string>();
    manifest->model_fingerprint = json.at("model_fingerprint").get<std::string>();
    manifest->tensor_hashes = json.at("tensor_hashes").get<std::map<std::string, std::string>>();
  } catch (const nlohmann::json::exception&) {
    return false;  // made again by decompose
  }
  return true;
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
