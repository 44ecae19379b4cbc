// W' of one z, built by all ranks of a host: each a share of the matrices, which it then gives to
// the others.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "worker/model/merged.h"

namespace svfleet {

struct SharedMerge {
  Merged merged;
  std::vector<int64_t> built_by_rank;  // matrices that each rank of the job has built
};

// Collective; z is the same on all ranks. The bits are those of building all. A rank alone on its
// host builds all by itself; so does each on GPUs, where building takes less time than the way
// through the host's memory. What a rank gets is hashed, and bears the hash of the z that it was
// built with: AgreedError(kExitRequeue), naming who gave what, where either is not right. Beside
// `before` and W', two matrices are held in memory, and one a thread.
SharedMerge merge_together(const Base& base, Crew& crew, std::span<const float> z, Merged before);

}  // namespace svfleet
