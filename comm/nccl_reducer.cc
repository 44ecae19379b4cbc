#include "comm/nccl_reducer.h"

#include <cuda_runtime.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "comm/error.h"
#include "comm/wait.h"

namespace svfleet {
namespace {

constexpr size_t kStagingBytes = size_t{64} << 20;
constexpr double kAbortTimeout = 10;

void check_cuda(cudaError_t result, const char* call, std::string_view op, int rank) {
  if (result == cudaSuccess) return;
  throw make_error(kExitRequeue, call, " failed in '", op, "' on rank ", rank, ": ",
                   cudaGetErrorString(result), "; look at the GPU of that rank's host");
}

class NcclReducer : public Reducer {
 public:
  NcclReducer(Group& group, const NcclOptions& options)
      : group_(group), timeout_s_(options.timeout_s) {
    check_device(options.device);
    setenv("NCCL_ALGO", options.algorithm.c_str(), 1);
    setenv("NCCL_PROTO", options.protocol.c_str(), 1);
    cuda(cudaSetDevice(options.device), "cudaSetDevice", "start NCCL");
    cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags",
         "start NCCL");
    cuda(cudaMalloc(&staging_, kStagingBytes), "cudaMalloc", "start NCCL");
    connect(options.channels);
  }

  ~NcclReducer() override {
    Watchdog watchdog("svfleet: timeout in the end of NCCL", 2 * kAbortTimeout, kExitRequeue);
    if (std::uncaught_exceptions() > exceptions_at_start_) broken_ = true;
    if (comm_ != nullptr && !broken_) {
      ncclResult_t state = ncclCommFinalize(comm_);
      const Deadline deadline(kAbortTimeout);
      Patience patience;
      while (state == ncclInProgress && !deadline.passed()) {
        patience.pause();
        if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) break;
      }
      if (state == ncclSuccess) {
        ncclCommDestroy(comm_);
        comm_ = nullptr;
      }
    }
    if (comm_ != nullptr) ncclCommAbort(comm_);
    cudaFree(staging_);
    cudaStreamDestroy(stream_);
  }

  void sum(std::span<int64_t> values, std::string_view op) override {
    meet(op, values.size());
    const size_t most = kStagingBytes / sizeof(int64_t);
    for (size_t at = 0; at < values.size(); at += most)
      sum_part(values.subspan(at, std::min(most, values.size() - at)), op);
  }

 private:
  void check_device(int device) {
    const std::string reason = why_no_gpu();
    if (!reason.empty())
      throw user_error(reason, " on host ", group_.host(), "; run without CUDA there");
    int count = 0;
    cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount", "start NCCL");
    if (device < 0 || device >= count)
      throw user_error("rank ", rank(), " is to use GPU ", device, " of host ", group_.host(),
                       ", which has ", count, "; start at most one rank per GPU");
  }

  // Non-blocking, so that a rank that does not come cannot hold the others for ever.
  void connect(int channels) {
    ncclUniqueId id;
    std::memset(&id, 0, sizeof id);
    if (rank() == 0) settle(ncclGetUniqueId(&id), "ncclGetUniqueId", "start NCCL");
    std::string bytes(reinterpret_cast<const char*>(&id), sizeof id);
    group_.broadcast(bytes, 0, "NCCL's identity");
    SVFLEET_CHECK(bytes.size() == sizeof id, bytes.size(), " bytes for NCCL's identity");
    std::memcpy(&id, bytes.data(), sizeof id);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = channels;
    config.maxCTAs = channels;
    settle(ncclCommInitRankConfig(&comm_, group_.size(), id, rank(), &config),
           "ncclCommInitRankConfig", "start NCCL");
  }

  // Who is missing is found out on the host, where it can be named.
  void meet(std::string_view op, size_t n) {
    SVFLEET_CHECK(!broken_, "'", op, "' after a failure of NCCL");
    std::string what(op);
    group_.barrier(what.append(" of ").append(std::to_string(n)).append(" numbers over NCCL"));
  }

  void sum_part(std::span<int64_t> part, std::string_view op) {
    cuda(cudaMemcpyAsync(staging_, part.data(), part.size_bytes(), cudaMemcpyHostToDevice, stream_),
         "cudaMemcpyAsync", op);
    settle(ncclAllReduce(staging_, staging_, part.size(), ncclInt64, ncclSum, comm_, stream_),
           "ncclAllReduce", op);
    wait(op);  // before the copy back, which would block without a deadline
    cuda(cudaMemcpyAsync(part.data(), staging_, part.size_bytes(), cudaMemcpyDeviceToHost, stream_),
         "cudaMemcpyAsync", op);
    wait(op);
  }

  // For everything in the stream.
  void wait(std::string_view op) {
    const Deadline deadline(timeout_s_);
    Patience patience(1e-4);
    while (true) {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state == cudaSuccess) return;
      if (state != cudaErrorNotReady) cuda(state, "cudaStreamQuery", op);
      ncclResult_t async = ncclSuccess;
      ncclCommGetAsyncError(comm_, &async);
      if (async != ncclSuccess && async != ncclInProgress) fail("the transfer", async, op);
      if (deadline.passed()) expire(op);
      patience.pause();
    }
  }

  // A non-blocking communicator answers "in progress" first.
  void settle(ncclResult_t result, const char* call, std::string_view op) {
    const Deadline deadline(timeout_s_);
    Patience patience;
    while (result == ncclInProgress) {
      if (deadline.passed()) expire(op);
      patience.pause();
      if (ncclCommGetAsyncError(comm_, &result) != ncclSuccess) break;
    }
    if (result != ncclSuccess) fail(call, result, op);
  }

  void cuda(cudaError_t result, const char* call, std::string_view op) {
    if (result != cudaSuccess) broken_ = true;
    check_cuda(result, call, op, rank());
  }

  [[noreturn]] void fail(const char* what, ncclResult_t result, std::string_view op) {
    const std::string detail = ncclGetLastError(comm_);
    break_off();
    throw make_error(kExitRequeue, what, " failed in '", op, "' on rank ", rank(), " (host ",
                     group_.host(), "): ", ncclGetErrorString(result), detail.empty() ? "" : ": ",
                     detail);
  }

  [[noreturn]] void expire(std::string_view op) {
    break_off();
    throw make_error(kExitRequeue, "timeout after ", timeout_s_, " s in '", op,
                     "': all ranks arrived, but NCCL did not end on rank ", rank(), " (host ",
                     group_.host(), "); a GPU or the network has failed");
  }

  void break_off() {
    broken_ = true;
    Watchdog watchdog("svfleet: timeout in ncclCommAbort; another rank or its node has failed",
                      kAbortTimeout, kExitRequeue);
    if (comm_ != nullptr) ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  int rank() const { return group_.rank(); }

  Group& group_;
  double timeout_s_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  void* staging_ = nullptr;  // device, kStagingBytes
  bool broken_ = false;
};

}  // namespace

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess)
    return std::string("no usable NVIDIA GPU: ").append(cudaGetErrorString(result));
  return count == 0 ? "no NVIDIA GPU" : "";
}

std::unique_ptr<Reducer> make_nccl_reducer(Group& group, const NcclOptions& options) {
  return std::make_unique<NcclReducer>(group, options);
}

}  // namespace svfleet
