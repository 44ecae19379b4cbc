// The device that a rank computes on: the CPU, or one of its host's GPUs.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace svfleet {

struct Device {
  c10::Device torch = c10::kCPU;
  std::string gpu;      // model of the GPU, empty on the CPU
  std::string kind;     // that and what else its bits may depend on: size, driver, cuBLAS
  std::string address;  // the GPU's on its host's bus: two ranks with the same one share it

  bool on_gpu() const { return torch.is_cuda(); }
};

// `name` is model.device: cpu or cuda. The ranks of a host take its visible GPUs in turn. For cuda,
// makes libtorch's choice of kernels on the GPU one that gives equal bits every time: call it
// before any computation and before there are other threads, since it changes the environment.
// Error(kExitUser) naming `host` where there is no GPU, or in a build without CUDA.
Device open_device(const std::string& name, int local_rank, const std::string& host);

// Takes a second at most. A GPU multiplies matrices whose product is known; Error(kExitRequeue)
// naming it and `host` when it fails or computes something else. Returns its free memory in bytes,
// 0 on the CPU.
uint64_t check_device(const Device& device, const std::string& host);

}  // namespace svfleet
