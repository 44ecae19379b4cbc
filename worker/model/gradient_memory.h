// The memory of a gradient's activations: predicted from the shapes before it is computed, and
// counted while it is.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>

#include "worker/model/architecture.h"

namespace c10 {
class DebugInfoGuard;
}

namespace svfleet {

// What one tree asks for.
struct GradientSize {
  int64_t rows = 0, trained = 0;  // tokens in the tree; those with a label
  int64_t logits_at_once = 0;     // rows of them: Head::rows_at_once
  int64_t layers = 0;             // from the lowest that holds a target to the last
  int64_t longest_basis = 0;      // the largest r
  int64_t page_bytes = 0;         // keys and values, as the pool holds them
  bool of_base = false;           // the base's logits, too
};

// Bytes of what the forward pass keeps for the gradient. `again`: of each layer only its input,
// from which the gradient computes the layer once more.
int64_t tape_bytes(const Architecture& arch, const GradientSize& size, bool again, int64_t bytes,
                   int64_t wide_bytes);

// Bytes at the peak of it all, weights not counted. `bytes`, `wide_bytes`: of a number of the
// model's type and of its wide type.
int64_t gradient_bytes(const Architecture& arch, const GradientSize& size, bool again,
                       int64_t bytes, int64_t wide_bytes);

// Counts what libtorch allocates in this thread, on any device, while it lives.
class AllocationCount {
 public:
  AllocationCount();
  ~AllocationCount();
  AllocationCount(const AllocationCount&) = delete;
  AllocationCount& operator=(const AllocationCount&) = delete;

  int64_t peak() const;  // the most that was held at a time, in bytes

 private:
  struct Count;
  std::shared_ptr<Count> count_;
  std::unique_ptr<c10::DebugInfoGuard> guard_;
};

}  // namespace svfleet
