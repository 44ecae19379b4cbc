#include "worker/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <system_error>

#include "worker/memory.h"

namespace svfleet {
namespace {

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

bool says(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != text.npos; });
}

std::string gigabytes(int64_t bytes) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f GB", double(bytes) / 1e9);
  return text;
}

Failure out_of_memory(int64_t asked, const Memory& memory) {
  std::string text = "out of memory: " + (asked > 0 ? gigabytes(asked) + " more" : "more") +
                     " were asked for; of " + gigabytes(memory.limit) + " of " + memory.what +
                     " this process holds " + gigabytes(memory.own) + " and others " +
                     gigabytes(memory.others);
  if (too_much_for_one(asked, memory))
    return {Error(
        kExitUser,
        text + "; lower workers, train.prompts_per_chunk, "
               "train.rows_per_worker, train.samples_per_prompt or max_new_tokens, or use a larger "
               "machine")};
  return {Error(kExitRequeue,
                text + "; alone it would have enough: look at what else runs on that host", true)};
}

bool is_of_memory(const std::string& text) {
  return says(text, {"you tried to allocate", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"});
}

// CUDA, cuBLAS, cuDNN and NCCL begin their errors so.
bool is_of_gpu(const std::string& text) {
  return says(text, {"CUDA error", "CUDA driver error", "CUDNN_STATUS_", "cuDNN error",
                     "CUBLAS_STATUS_", "CUSOLVER_STATUS_", "NCCL error", "NCCL Error", "NVML"});
}

// Names of these are faults of the machine for certain; other errors may come of what it was given.
bool is_of_hardware(const std::string& text) {
  return says(text, {"ECC", "Xid", "hardware", "nvlink", "NVLink", "bus", "driver",
                     "busy or unavail", "launch timed out", "system not yet initialized",
                     "initialization error", "is lost", "reset"});
}

Failure of_libtorch(const std::string& text, const Device& device) {
  if (is_of_memory(text)) {
    const Memory memory = text.find("CUDA") != text.npos ? gpu_memory(text) : host_memory();
    return out_of_memory(bytes_asked(text), memory);
  }
  if (!is_of_gpu(text)) return {Error(kExitInternal, "internal error: " + first_line(text))};
  const std::string gpu =
      device.address.empty() ? "the GPU" : "the GPU " + device.address + " (" + device.gpu + ")";
  return {Error(kExitRequeue,
                gpu + " fails: " + first_line(text) + "; leave out that host, or have it looked at",
                true),
          !is_of_hardware(first_line(text))};
}

}  // namespace

Failure failure_of(const std::exception_ptr& failure, const Device& device) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return {error};
  } catch (const c10::Error& error) {
    return of_libtorch(error.what_without_backtrace(), device);
  } catch (const std::bad_alloc&) {
    return out_of_memory(0, host_memory());
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again)
      return {Error(kExitRequeue,
                    std::string("no thread can be started: ") + first_line(error.what()) +
                        "; look at what else runs on that host, and at its limits",
                    true)};
    return {Error(kExitInternal, std::string("internal error: ") + first_line(error.what()))};
  } catch (const std::exception& error) {
    return {Error(kExitInternal, std::string("internal error: ") + first_line(error.what()))};
  } catch (...) {
    return {Error(kExitInternal, "internal error: an unknown exception")};
  }
}

}  // namespace svfleet
