// The factors of the base model: looked for in the store, decomposed where they are missing, and
// made ready for use. All ranks share the work through the queue.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "svd/store.h"

namespace svfleet {

struct NamedCertificate {
  std::string name;
  Certificate certificate;
  bool made_now = false;
};

// The store, complete.
struct Decomposed {
  FactorStore::Manifest made_from;
  bool any_missing = false;                    // at the start
  std::vector<NamedCertificate> certificates;  // on rank 0
  std::map<std::string, Factor> at_hand;       // by weight name: some that this rank has read
};

// Collective. Decomposes what is missing; needs the model's files, not its weights in memory. Two
// runs may do so on one store at the same time: each matrix is that of the run that published it
// first, on whatever machine. With `keep`, factors that were read on the way are handed on, and a
// configuration whose core reads no factors needs none. Nothing when stopped. Error(kExitUser)
// naming svd.store where the store holds something else. `check`, on every rank, gets the model's
// hash before the first matrix is looked at; false: no factors are needed, and nothing is returned.
using ModelCheck = std::function<bool(const std::string& model_hash)>;
std::optional<Decomposed> decompose_missing(const Config& config, Crew& crew,
                                            const Architecture& architecture,
                                            const SafetensorsFolder& files, bool keep,
                                            const ModelCheck& check = nullptr);

// Collective. Reads all factors that its core needs and makes the matrices adaptable.
// Error(kExitDisk) naming the tensor when one of the model in memory is not what the store was made
// from.
void load_factors(const Config& config, Crew& crew, Decomposed decomposed, Base& base);

// Collective. Both, for these experts, which must be of this model; false when stopped.
bool open_factors(const Config& config, Crew& crew, Base& base, const std::vector<Expert>& experts,
                  const std::vector<std::string>& paths);

}  // namespace svfleet
