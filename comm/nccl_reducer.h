// Integer sums over NCCL between GPUs. They do not depend on NCCL's algorithm; it is pinned all the
// same, so that the time does not either.
#pragma once

#include <memory>
#include <string>

#include "comm/group.h"
#include "comm/reducer.h"

namespace svfleet {

struct NcclOptions {
  int device = 0;  // CUDA device of this rank; two ranks must not share one
  double timeout_s = 600;
  // Put into NCCL_ALGO and NCCL_PROTO, whatever was there, before NCCL starts. NCCL reads them
  // once: all communicators of a process have those of the first.
  std::string algorithm = "Ring";
  std::string protocol = "Simple";
  int channels = 8;
};

// Why NCCL cannot be used on this machine; empty when it can.
std::string why_no_gpu();

// Collective over `group`, which must stay while it lives: over it ranks meet before each sum, and
// get their names when they do not come. Changes the environment: call it before there are other
// threads. Throws kExitUser when this rank has no such GPU. A sum throws kExitRequeue after the
// timeout or when NCCL reports a failure, and then it is of no more use.
std::unique_ptr<Reducer> make_nccl_reducer(Group& group, const NcclOptions& options);

}  // namespace svfleet
