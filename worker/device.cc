#include "worker/device.h"

#include "comm/error.h"

#ifdef SVFLEET_HAVE_CUDA
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdlib>
#include <sstream>

#include "comm/nccl_reducer.h"
#endif

namespace svfleet {

#ifdef SVFLEET_HAVE_CUDA

namespace {

void check(cudaError_t result, const char* call, const std::string& host) {
  if (result != cudaSuccess)
    throw user_error("model.device is cuda, but ", call, " failed on host ", host, ": ",
                     cudaGetErrorString(result), "; look at its GPU, or use model.device: cpu");
}

// Equal bits at equal shapes. The fused attention kernels add gradients in no fixed order, and
// cuBLAS may choose its algorithm by the workspace that is free, or add in bfloat16.
void pin_kernels() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 1);
  at::Context& context = at::globalContext();
  context.setSDPUseFlash(false);
  context.setSDPUseMemEfficient(false);
  context.setSDPUseCuDNN(false);
  context.setAllowTF32CuBLAS(false);
  context.setAllowBF16ReductionCuBLAS(false);
}

}  // namespace

Device open_device(const std::string& name, int local_rank, const std::string& host) {
  if (name == "cpu") return {};
  const std::string reason = why_no_gpu();
  if (!reason.empty())
    throw user_error("model.device is cuda, but host ", host, " has ", reason,
                     "; use a host with a GPU and its driver, or model.device: cpu");
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount", host);
  const int index = local_rank % count;
  check(cudaSetDevice(index), "cudaSetDevice", host);
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties", host);
  char address[32] = {};
  check(cudaDeviceGetPCIBusId(address, sizeof address, index), "cudaDeviceGetPCIBusId", host);
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion", host);
  pin_kernels();
  std::ostringstream kind;
  kind << properties.name << ", " << properties.multiProcessorCount
       << " multiprocessors, a driver for CUDA " << driver / 1000 << '.' << driver % 1000 / 10
       << ", cublasLt " << cublasLtGetVersion();
  return {c10::Device(c10::kCUDA, c10::DeviceIndex(index)), properties.name, kind.str(), address};
}

uint64_t check_device(const Device& device, const std::string& host) {
  if (!device.on_gpu()) return 0;
  const auto sick = [&](const std::string& what) {
    return node_error(kExitRequeue, "the GPU ", device.address, " (", device.gpu, ") of host ",
                      host, " ", what, "; leave out that host, or have its GPU looked at");
  };
  try {
    // Small whole numbers: the product is exact in whatever order it is added up.
    const at::Tensor index = at::arange(512 * 512, at::kFloat).view({512, 512});
    const at::Tensor a = at::remainder(index * 7, 11) - 5, b = at::remainder(index * 5, 13) - 6;
    const at::Tensor there = at::mm(a.to(device.torch), b.to(device.torch)).to(at::kCPU);
    if (!at::equal(there, at::mm(a, b))) throw sick("multiplies two matrices wrongly");
  } catch (const c10::Error& error) {
    std::string text = error.what_without_backtrace();
    throw sick("fails in a product of matrices: " + text.substr(0, text.find('\n')));
  }
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo", host);
  return free;
}

#else

Device open_device(const std::string& name, int /*local_rank*/, const std::string& host) {
  if (name == "cpu") return {};
  throw user_error("model.device is cuda, but the svfleet on host ", host,
                   " was built without CUDA; build it with -DSVFLEET_CUDA=ON, or use model.device: "
                   "cpu");
}

uint64_t check_device(const Device& /*device*/, const std::string& /*host*/) {
  return 0;
}

#endif

}  // namespace svfleet
