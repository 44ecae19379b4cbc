// The factor store: a folder with one HDF5 file per decomposed matrix. A file is written whole or
// not at all, so a killed decomposition continues with the matrices that are missing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "svd/factor.h"

namespace svfleet {

class FactorStore {
 public:
  explicit FactorStore(std::string folder) : folder_(std::move(folder)) {}
  const std::string& folder() const { return folder_; }
  std::string path(const Target& target) const;  // <folder>/<weight name>.h5

  // Writes one factor atomically. Thread-safe.
  void save(const Factor& factor) const;

  // Reads one back. Error(kExitDisk) when damaged; Error(kExitUser) naming the matrix when it was
  // made from another tensor (source_hash, ignored when empty), with another form or size, or when
  // its certificate's predicted error is above `tolerance`.
  Factor load(const Target& target, const std::string& source_hash, double tolerance) const;

  // What decomposition may skip: the file is there, whole, made from this tensor with this storage
  // type. `why` says what is wrong with a damaged file, which may be written again. A whole file
  // that is of something else is not ours to replace: Error(kExitUser) naming the matrix.
  bool has(const Target& target, const std::string& source_hash, at::ScalarType storage,
           std::string* why) const;

  // store.json: what the factors were made from, written after the last matrix.
  struct Manifest {
    std::string model_hash;         // over all tensors of the model
    std::string model_fingerprint;  // of headers, sizes and times: a cheap check at every start
    std::map<std::string, std::string> tensor_hashes;  // by weight name
  };
  void save_manifest(const Manifest& manifest) const;
  bool load_manifest(Manifest* manifest) const;  // false when there is none

 private:
  std::string folder_;
};

// Near-equal singular values have no unique basis, so a z means something only with the very
// factors it was trained on. Hash of one factor: basis, sigmas and form.
std::string factor_hash(const Factor& factor);
// Of several: hash over (weight name, factor hash), by name.
std::string factors_hash(const std::map<std::string, std::string>& factor_hashes);

}  // namespace svfleet
