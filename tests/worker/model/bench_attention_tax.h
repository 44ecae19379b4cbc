// What attention costs because a row's bits are its own: this engine's, beside libtorch's fused
// one.
#pragma once

#include <nlohmann/json.hpp>

#include "worker/model/architecture.h"

namespace svfleet {

// Seconds of one layer's attention on one thread, the median of `runs`, in bfloat16:
// {"decode": {"ours", "fused"}, "tree": ..., "tree_gradient": ...}. decode: `rows` tokens, each
// with `keys` of its own sequence; tree: `tokens` of one sequence, each with all before it. "fused"
// is libtorch's flash attention for CPUs, in bfloat16 or in float32, whichever is faster, on keys
// that lie side by side already.
nlohmann::json attention_tax(const Architecture& arch, int64_t rows, int64_t keys, int64_t tokens,
                             int runs);

}  // namespace svfleet
