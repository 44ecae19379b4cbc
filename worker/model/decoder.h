// The forward pass of a Llama-family decoder over frozen weights, with an adapter: free functions,
// const in all they read and re-entrant.
//
// Tokens come as segments of a tree: a segment attends to itself causally and to all of its
// ancestors. So a prefix shared by several prompts, and a prompt shared by several replies, is
// computed once, in sampling and in the gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/model/adapter.h"
#include "worker/model/weights.h"

namespace svfleet {

struct Segment {
  int64_t start = 0, length = 0;  // rows of the packed sequence
  int parent = -1;                // an earlier segment of the same entry, or -1
  int64_t position = 0;           // of its first token in its own sequence
  int entry = kOnlyExpert;        // of the adapter's table
};

struct Batch {
  std::vector<int> tokens;        // packed
  std::vector<Segment> segments;  // one behind the other
};

// Keys and values of one layer, as the segments left them: [tokens, kv_heads, head_dim].
struct LayerKv {
  at::Tensor k, v;
};

// Final hidden states (after the last norm) of all tokens [T, hidden]. With `cache`, each layer's
// keys and values are kept. Error(kExitUser) for a sequence that needs a sliding window.
at::Tensor forward(const Weights& weights, const Adapter& adapter, const Batch& batch,
                   std::vector<LayerKv>* cache = nullptr);

// One token more for each row of a decoding loop.
struct DecodeBatch {
  std::vector<int> tokens;
  std::vector<int64_t> positions;  // of each token in its own sequence
  std::vector<int> entries;        // of the adapter's table; empty: the only expert
};

// Cache of that loop: row r's tokens end at column `filled`, padding is on the left.
struct DecodeCache {
  std::vector<at::Tensor> k, v;  // per layer [rows, kv_heads, capacity, head_dim]
  at::Tensor mask;               // [rows, capacity], 0 where attended, -inf where padding
  int64_t filled = 0;
};

// Hidden states [rows, hidden]; appends to the cache.
at::Tensor decode(const Weights& weights, const Adapter& adapter, const DecodeBatch& batch,
                  DecodeCache& cache);

}  // namespace svfleet
