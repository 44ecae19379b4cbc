#include "worker/model/gradient_memory.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>

#include "worker/model/head.h"

namespace svfleet {
namespace {

int64_t query_width(const Architecture& arch) {
  return arch.heads * arch.head_dim;
}

// Of a layer, by row: Tape::Layer.
int64_t layer_bytes(const Architecture& arch, int64_t bytes, int64_t wide_bytes) {
  const int64_t kv_width = arch.kv_heads * arch.head_dim;
  const int64_t qk = arch.has_qk_norm() ? query_width(arch) + kv_width : 0,
                behind = arch.has_norm_behind() ? 2 * arch.hidden : 0;
  return bytes * (2 * arch.hidden + 2 * query_width(arch) + 2 * arch.intermediate + qk + behind) +
         wide_bytes * (arch.heads + 2);
}

}  // namespace

int64_t tape_bytes(const Architecture& arch, const GradientSize& size, bool again, int64_t bytes,
                   int64_t wide_bytes) {
  const int64_t row = again
                          ? size.layers * bytes * arch.hidden + layer_bytes(arch, bytes, wide_bytes)
                          : size.layers * layer_bytes(arch, bytes, wide_bytes);
  return size.rows * (row + bytes * arch.hidden);
}

int64_t gradient_bytes(const Architecture& arch, const GradientSize& size, bool again,
                       int64_t bytes, int64_t wide_bytes) {
  const int64_t logits = std::min(size.trained, size.logits_at_once) * arch.vocabulary;
  const int64_t head = logits * (wide_bytes * (size.of_base ? 2 : 1) + bytes) +
                       2 * size.trained * arch.hidden * wide_bytes;
  // The widest place of a layer's gradient, behind the activation: at the MLP's inner width the
  // gradients of gate, up and their product, wide, and one of them rounded; beside them, what goes
  // through a basis.
  const int64_t layer = size.rows * (arch.intermediate * (3 * wide_bytes + bytes) +
                                     arch.hidden * (2 * wide_bytes + bytes) +
                                     size.longest_basis * (2 * wide_bytes + bytes));
  return size.page_bytes + tape_bytes(arch, size, again, bytes, wide_bytes) +
         size.rows * arch.hidden * wide_bytes + std::max(head, layer);
}

struct AllocationCount::Count : c10::MemoryReportingInfoBase {
  int64_t held = 0, most = 0;

  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    held += bytes;
    most = std::max(most, held);
  }
  bool memoryProfilingEnabled() const override { return true; }
};

AllocationCount::AllocationCount()
    : count_(std::make_shared<Count>()),
      guard_(std::make_unique<c10::DebugInfoGuard>(c10::DebugInfoKind::PROFILER_STATE, count_)) {}

AllocationCount::~AllocationCount() = default;

int64_t AllocationCount::peak() const {
  return count_->most;
}

}  // namespace svfleet
