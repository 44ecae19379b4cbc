// For tests alone: a fault on one node, made on purpose. The variable SVFLEET_TEST_FAULT names a
// file; while that file holds "KIND HOST", what KIND stands for happens on HOST, or only on one of
// its ranks: "KIND HOST RANK". The variable is read once: without it a product costs a look at a
// constant.
#pragma once

namespace svfleet {

extern const bool kTestFaults;  // whether the variable is set

// ecc, address: an error of libtorch with CUDA's own words. memory: an allocation of 2^50 bytes.
// check: a broken check of ours. unknown: an exception that nobody knows.
void fail_as_told();
// Whether `kind` is to happen here, for faults that are not exceptions.
bool test_fault_is(const char* kind);

// Round one product of each layer.
inline void test_fault() {
  if (kTestFaults) fail_as_told();
}

}  // namespace svfleet
