// What an exception says of the machine, by the very texts of libtorch and CUDA.
#include "worker/failure.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <system_error>

#include "worker/memory.h"

namespace svfleet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Device kGpu{c10::kCPU, "NVIDIA H100", "NVIDIA H100, 132 multiprocessors", "0000:1B:00.0"};

template <class Exception>
Failure of(const Exception& exception) {
  return failure_of(std::make_exception_ptr(exception), kGpu);
}

Failure of_torch(const std::string& text) {
  try {
    TORCH_CHECK(false, text);
  } catch (...) {
    return failure_of(std::current_exception(), kGpu);
  }
  return {Error(kExitFinished, "")};
}

TEST(FailureTest, AGpuThatFailsIsThisMachines) {
  for (const char* text :
       {"CUDA error: uncorrectable ECC error encountered", "CUDA error: unspecified launch failure",
        "CUDA error: an illegal memory access was encountered", "CUDA error: unknown error",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(handle, ...)`",
        "CUDA driver error: device not ready", "NCCL error: unhandled cuda error"}) {
    const Failure failure = of_torch(std::string(text) + "\nCUDA kernel errors might be reported");
    EXPECT_EQ(failure.error.code(), kExitRequeue) << text;
    EXPECT_TRUE(failure.error.of_node());
    EXPECT_THAT(
        failure.error.what(),
        AllOf(HasSubstr(text), HasSubstr("0000:1B:00.0 (NVIDIA H100)"), Not(HasSubstr("\n"))));
  }
}

TEST(FailureTest, AnAddressMayBeOurs) {
  for (const char* text : {"CUDA error: an illegal memory access was encountered",
                           "CUDA error: device-side assert triggered",
                           "CUDA error: misaligned address", "CUDA error: invalid argument"})
    EXPECT_TRUE(of_torch(text).maybe_ours) << text;
  for (const char* text :
       {"CUDA error: uncorrectable ECC error encountered",
        "CUDA error: the launch timed out and was terminated", "CUDA error: hardware stack error"})
    EXPECT_FALSE(of_torch(text).maybe_ours) << text;
}

TEST(FailureTest, OursStaysOurs) {
  EXPECT_EQ(of_torch("mat1 and mat2 shapes cannot be multiplied").error.code(), kExitInternal);
  EXPECT_EQ(of(std::runtime_error("nobody knows this\none")).error.code(), kExitInternal);
  EXPECT_STREQ(of(std::runtime_error("a\nb")).error.what(), "internal error: a");
  EXPECT_EQ(of(1).error.code(), kExitInternal);
  EXPECT_EQ(of(Error(kExitNoProgress, "as it is")).error.code(), kExitNoProgress);
  EXPECT_EQ(of(std::system_error(EDOM, std::generic_category())).error.code(), kExitInternal);
  const Failure thread = of(std::system_error(EAGAIN, std::generic_category()));
  EXPECT_EQ(thread.error.code(), kExitRequeue);
  EXPECT_TRUE(thread.error.of_node());
}

TEST(FailureTest, MoreMemoryThanThereIsIsTheUsers) {
  try {
    at::empty({int64_t(1) << 50}, at::kByte);
    FAIL() << "there is a petabyte";
  } catch (...) {
    const Failure failure = failure_of(std::current_exception(), Device{});
    EXPECT_EQ(failure.error.code(), kExitUser);
    EXPECT_THAT(failure.error.what(),
                AllOf(HasSubstr("1125899.9 GB more were asked for"),
                      HasSubstr("this process holds"), HasSubstr("train.prompts_per_chunk")));
  }
}

constexpr char kFull[] =
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which "
    "1.11 GiB is free. Process 4711 has 50.00 GiB memory in use. Including non-PyTorch memory, "
    "this "
    "process has 28.00 GiB memory in use. Of the allocated memory 27.00 GiB is allocated by "
    "PyTorch, "
    "and 0.50 GiB is reserved by PyTorch but unallocated.";

TEST(FailureTest, MemoryThatOthersHoldIsTheNodes) {
  const Failure others = of_torch(kFull);
  EXPECT_EQ(others.error.code(), kExitRequeue);
  EXPECT_TRUE(others.error.of_node());
  EXPECT_THAT(others.error.what(),
              AllOf(HasSubstr("2.1 GB more"), HasSubstr("30.1 GB"), HasSubstr("others 53.7 GB")));
  std::string alone = kFull;  // the control: the same card, all of it held here
  alone.replace(alone.find("Process 4711 has 50.00 GiB memory in use. "), 42, "");
  alone.replace(alone.find("process has 28.00"), 17, "process has 78.00");
  EXPECT_EQ(of_torch(alone).error.code(), kExitUser);
}

TEST(MemoryTest, WhatTheTextsSay) {
  EXPECT_EQ(bytes_asked(kFull), int64_t(2) << 30);
  EXPECT_EQ(bytes_asked("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12345 "
                        "bytes. Error code 12"),
            12345);
  EXPECT_EQ(bytes_asked("nothing of it"), 0);
  EXPECT_TRUE(too_much_for_one(6, {"", 10, 5, 0}));
  EXPECT_FALSE(too_much_for_one(5, {"", 10, 5, 5}));
  EXPECT_TRUE(too_much_for_one(0, {"", 10, 6, 0}));
  EXPECT_FALSE(too_much_for_one(0, {"", 10, 5, 5}));
  const Memory host = host_memory();
  EXPECT_GT(host.limit, int64_t(1) << 28);
  EXPECT_GT(host.own, int64_t(1) << 20);
  EXPECT_LT(host.own, host.limit);
}

}  // namespace
}  // namespace svfleet
