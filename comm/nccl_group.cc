#include "comm/nccl_group.h"

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

class NcclOverGroup : public NcclGroup {
 public:
  NcclOverGroup(std::unique_ptr<Group> host, const NcclOptions& options)
      : host_(std::move(host)), timeout_s_(options.timeout_s) {
    check_device(options.device);
    setenv("NCCL_ALGO", options.algorithm.c_str(), 1);
    setenv("NCCL_PROTO", options.protocol.c_str(), 1);
    cuda(cudaSetDevice(options.device), "cudaSetDevice", "start NCCL");
    cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags",
         "start NCCL");
    cuda(cudaMalloc(&staging_, kStagingBytes), "cudaMalloc", "start NCCL");
    connect(options.channels);
  }

  ~NcclOverGroup() override {
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

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::string host() const override { return host_->host(); }
  std::string name(int rank) const override { return host_->name(rank); }
  void barrier(std::string_view op) override { host_->barrier(op); }
  void broadcast(std::string& bytes, int root, std::string_view op) override {
    host_->broadcast(bytes, root, op);
  }
  std::vector<std::string> gather(std::string_view bytes, std::string_view op) override {
    return host_->gather(bytes, op);
  }
  Mailbox& mailbox() override { return host_->mailbox(); }
  Watch& watch() override { return host_->watch(); }
  void set_step(int64_t step) override { host_->set_step(step); }
  int64_t step() const override { return host_->step(); }
  [[noreturn]] void abort(int code) override {
    host_->abort(code);
    _exit(code);  // not reached; the compiler cannot see it through the interface
  }

  void all_reduce_max(std::span<int32_t> values, std::string_view op) override {
    stage(values, ncclInt32, ncclMax, op);
  }
  void all_reduce_sum(std::span<int64_t> values, std::string_view op) override {
    stage(values, ncclInt64, ncclSum, op);
  }
  void all_reduce_max(int32_t* values, size_t n, cudaStream_t stream,
                      std::string_view op) override {
    meet(op, n);
    enqueue(values, n, ncclInt32, ncclMax, stream, op);
  }
  void all_reduce_sum(int64_t* values, size_t n, cudaStream_t stream,
                      std::string_view op) override {
    meet(op, n);
    enqueue(values, n, ncclInt64, ncclSum, stream, op);
  }

  void wait(cudaStream_t stream, std::string_view op) override {
    const Deadline deadline(timeout_s_);
    Patience patience(1e-4);
    while (true) {
      const cudaError_t state = cudaStreamQuery(stream);
      if (state == cudaSuccess) return;
      if (state != cudaErrorNotReady) cuda(state, "cudaStreamQuery", op);
      ncclResult_t async = ncclSuccess;
      ncclCommGetAsyncError(comm_, &async);
      if (async != ncclSuccess && async != ncclInProgress) fail("the transfer", async, op);
      if (deadline.passed()) expire(op);
      patience.pause();
    }
  }

 private:
  void check_device(int device) {
    const std::string reason = why_no_gpu();
    if (!reason.empty()) throw user_error(reason, " on host ", host(), "; run without CUDA there");
    int count = 0;
    cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount", "start NCCL");
    if (device < 0 || device >= count)
      throw user_error("rank ", rank(), " is to use GPU ", device, " of host ", host(),
                       ", which has ", count, "; start at most one rank per GPU");
  }

  // Non-blocking, so that a rank that does not come cannot hold the others for ever.
  void connect(int channels) {
    ncclUniqueId id;
    std::memset(&id, 0, sizeof id);
    if (rank() == 0) settle(ncclGetUniqueId(&id), "ncclGetUniqueId", "start NCCL");
    std::string bytes(reinterpret_cast<const char*>(&id), sizeof id);
    host_->broadcast(bytes, 0, "NCCL's identity");
    SVFLEET_CHECK(bytes.size() == sizeof id, bytes.size(), " bytes for NCCL's identity");
    std::memcpy(&id, bytes.data(), sizeof id);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = channels;
    config.maxCTAs = channels;
    settle(ncclCommInitRankConfig(&comm_, size(), id, rank(), &config), "ncclCommInitRankConfig",
           "start NCCL");
  }

  // Who is missing is found out on the host, where it can be named.
  void meet(std::string_view op, size_t n) {
    SVFLEET_CHECK(!broken_, "'", op, "' after a failure of NCCL");
    std::string what(op);
    host_->barrier(what.append(" of ").append(std::to_string(n)).append(" numbers over NCCL"));
  }

  void enqueue(void* values, size_t n, ncclDataType_t type, ncclRedOp_t how, cudaStream_t stream,
               std::string_view op) {
    settle(ncclAllReduce(values, values, n, type, how, comm_, stream), "ncclAllReduce", op);
  }

  template <class T>
  void stage(std::span<T> values, ncclDataType_t type, ncclRedOp_t how, std::string_view op) {
    meet(op, values.size());
    const size_t most = kStagingBytes / sizeof(T);
    for (size_t at = 0; at < values.size(); at += most) {
      const std::span<T> part = values.subspan(at, std::min(most, values.size() - at));
      cuda(cudaMemcpyAsync(staging_, part.data(), part.size_bytes(), cudaMemcpyHostToDevice,
                           stream_),
           "cudaMemcpyAsync", op);
      enqueue(staging_, part.size(), type, how, stream_, op);
      wait(stream_, op);  // before the copy back, which would block without a deadline
      cuda(cudaMemcpyAsync(part.data(), staging_, part.size_bytes(), cudaMemcpyDeviceToHost,
                           stream_),
           "cudaMemcpyAsync", op);
      wait(stream_, op);
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
                     host(), "): ", ncclGetErrorString(result), detail.empty() ? "" : ": ", detail);
  }

  [[noreturn]] void expire(std::string_view op) {
    break_off();
    throw make_error(kExitRequeue, "timeout after ", timeout_s_, " s in '", op,
                     "': all ranks arrived, but NCCL did not end on rank ", rank(), " (host ",
                     host(), "); a GPU or the network has failed");
  }

  void break_off() {
    broken_ = true;
    Watchdog watchdog("svfleet: timeout in ncclCommAbort; another rank or its node has failed",
                      kAbortTimeout, kExitRequeue);
    if (comm_ != nullptr) ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  std::unique_ptr<Group> host_;
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

std::unique_ptr<NcclGroup> make_nccl_group(std::unique_ptr<Group> host,
                                           const NcclOptions& options) {
  return std::make_unique<NcclOverGroup>(std::move(host), options);
}

}  // namespace svfleet
