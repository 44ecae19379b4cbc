// The factor store: a folder with one HDF5 file per decomposed matrix. A file is written whole or
// not at all, so a killed decomposition continues with the matrices that are missing; and by one
// run only, since an expert means something only with the very factors that it was trained on.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "svd/factor.h"

namespace svfleet {

// Of a file with Q on the side of `target`: version 1 has it on the smaller side, which earlier
// programs can read; 2 on the other.
int64_t factor_version(const Target& target);
// `target` with Q where a file, or a store, of this version has it. One of version 1 keeps its
// form, or experts and runs that rest on it would get other bits.
Target in_version(const Target& target, int64_t version);

class FactorStore {
 public:
  explicit FactorStore(std::string folder) : folder_(std::move(folder)) {}
  const std::string& folder() const { return folder_; }
  std::string path(const Target& target) const;  // <folder>/<weight name>.h5

  // Publishes one factor: the first run to do so wins. False when a whole file has its name already
  // and stays; a damaged one is replaced. Thread-safe, and safe against other runs.
  bool publish(const Factor& factor) const;

  // Reads one back, on the side that the file has it: its target's form is the file's. Of a file of
  // version 1 that is the smaller side. Error(kExitDisk) when damaged; Error(kExitUser) naming the
  // matrix when it was made from another tensor (source_hash, ignored when empty), with another
  // form or size, or when its certificate's predicted error is above `tolerance`.
  Factor load(const Target& target, const std::string& source_hash, double tolerance) const;

  // Error(kExitUser) naming the matrix when its predicted error is above `tolerance`.
  void check_certificate(const Factor& factor, double tolerance) const;

  // The factor that decomposition may skip: there, whole, made from this tensor with this storage
  // type. Nothing where it is missing or damaged (`why` then says what is wrong): it may be
  // published. A whole file that is of something else is not ours to replace: Error(kExitUser)
  // naming the matrix. Error(kExitDisk) when the disk does not give it.
  std::optional<Factor> find(const Target& target, const std::string& source_hash,
                             at::ScalarType storage, std::string* why) const;

  // store.json: what the factors are made from, and on what kinds of machine.
  struct Manifest {
    int64_t version = 1;            // that the store was begun with, and goes on with
    std::string model_hash;         // over all tensors of the model
    std::string model_fingerprint;  // of headers, sizes and times: a cheap check at every start
    std::map<std::string, std::string> tensor_hashes;  // by weight name
    std::string storage;                               // of all factors; empty: not known
    std::map<std::string, std::string> machines;       // identity (canonical JSON) by its hash
    std::map<std::string, std::string> made_on;        // hash of an identity by weight name
    bool operator==(const Manifest&) const = default;
  };
  bool load_manifest(Manifest* manifest) const;  // false when there is none
  // Of the target's file; nothing where there is none, or it is damaged.
  std::optional<int64_t> version_of(const Target& target) const;
  // Before the first factor is made: what model, storage type (left alone when empty) and machines
  // they belong to; what the file says of other machines stays. Error(kExitUser) naming svd.store
  // when the store has another type.
  void settle(const Manifest& manifest) const;
  // Afterwards: the hash of the machine that each was made on.
  void note_made(const std::map<std::string, std::string>& made_on) const;

 private:
  // Reads store.json, lets `change` change it, and writes it, one process at a time.
  void update_manifest(const std::function<void(Manifest&)>& change) const;
  std::string manifest_path() const { return folder_ + "/store.json"; }

  std::string folder_;
};

// Near-equal singular values have no unique basis, so a z means something only with the very
// factors it was trained on. Hash of one factor: basis, sigmas and form.
std::string factor_hash(const Factor& factor);
// Of several: hash over (weight name, factor hash), by name.
std::string factors_hash(const std::map<std::string, std::string>& factor_hashes);

}  // namespace svfleet
