// What verify compares all that it reads with.
#pragma once

#include <vector>

#include "coordinator/config/config.h"
#include "svd/store.h"

namespace svfleet {

struct Truth {
  std::vector<Target> targets;
  FactorStore::Manifest manifest;
};

// Error(kExitDisk) where a run of these folders has begun and they cannot be read: that is damage;
// kExitUser otherwise.
Truth open_truth(const Config& config);

}  // namespace svfleet
