#include "worker/test_fault.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

#include "checkpoints/process.h"
#include "comm/error.h"
#include "comm/group.h"

namespace svfleet {
namespace {

const char* const kFile = std::getenv("SVFLEET_TEST_FAULT");

// The kind of fault that is to happen here, or "".
std::string told() {
  std::ifstream file(kFile);
  std::string kind, host;
  if (!(file >> kind >> host) || host != host_name()) return "";
  int rank = 0;
  return !(file >> rank) || rank == launch_rank() ? kind : "";
}

}  // namespace

const bool kTestFaults = kFile != nullptr;

void fail_as_told() {
  const std::string kind = told();
  if (kind == "ecc") TORCH_CHECK(false, "CUDA error: uncorrectable ECC error encountered");
  if (kind == "address") TORCH_CHECK(false, "CUDA error: an illegal memory access was encountered");
  if (kind == "memory") at::empty({int64_t(1) << 50}, at::kByte);
  SVFLEET_CHECK(kind != "check", "a check broken by a test");
  if (kind == "unknown") throw std::runtime_error("nobody knows this one");
}

bool test_fault_is(const char* kind) {
  return kTestFaults && told() == kind;
}

}  // namespace svfleet
