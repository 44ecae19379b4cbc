// A group whose all-reduces go over NCCL between GPUs: a decorator of a host group, which carries
// everything else. Integer sums and maxima do not depend on NCCL's algorithm; it is pinned all the
// same, so that the time does not either and so that float collectives can join later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "comm/group.h"

typedef struct CUstream_st* cudaStream_t;

namespace svfleet {

struct NcclOptions {
  int device = 0;  // CUDA device of this rank; two ranks must not share one
  double timeout_s = 600;
  // Put into NCCL_ALGO and NCCL_PROTO, whatever was there, before NCCL starts. NCCL reads them
  // once: all groups of a process have those of the first.
  std::string algorithm = "Ring";
  std::string protocol = "Simple";
  int channels = 8;
};

class NcclGroup : public Group {
 public:
  // Collective and stream-ordered: returns when all ranks have arrived and the reduction is in the
  // stream. `values` is device memory and is not to be touched outside the stream before wait().
  virtual void all_reduce_max(int32_t* values, size_t n, cudaStream_t stream,
                              std::string_view op) = 0;
  virtual void all_reduce_sum(int64_t* values, size_t n, cudaStream_t stream,
                              std::string_view op) = 0;
  // Local. Waits for everything in the stream; throws kExitRequeue after the timeout or when NCCL
  // reports a failure, and then the group is of no more use.
  virtual void wait(cudaStream_t stream, std::string_view op) = 0;

  // Host memory is staged through the device.
  using Group::all_reduce_max;
  using Group::all_reduce_sum;
};

// Why NCCL cannot be used on this machine; empty when it can.
std::string why_no_gpu();

// Collective over `host`. Changes the environment: call it before there are other threads.
// Throws kExitUser when this rank has no such GPU.
std::unique_ptr<NcclGroup> make_nccl_group(std::unique_ptr<Group> host, const NcclOptions& options);

}  // namespace svfleet
