// What one pass through the decoder computes: rows, each a token of some sequence, and the pages
// that hold its sequence's keys and values. A prompt, a tree of replies and a decoding step are
// all passes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/model/expert_table.h"
#include "worker/model/key_values.h"

namespace svfleet {

class GpuPass;

struct Pass {
  std::vector<int> tokens;
  std::vector<int64_t> positions;  // of each in its own sequence, whose tokens before it it sees
  std::vector<int> entries;        // of the adapter's table
  // Of each row's sequence, its own token's page included; they stay where they are while it runs.
  std::vector<const Pages*> pages;
  // After every layer's keys and values are in: the first `slots` tokens of page `from` are those
  // of page `to`, too; in this order.
  std::vector<PageCopy> copies;
  // What a GPU has of it, once a layer has asked; nothing of the above changes after that.
  mutable std::shared_ptr<const GpuPass> on_gpu;

  int64_t rows() const { return int64_t(tokens.size()); }
};

// Tokens as a tree: a segment sees itself and all of its ancestors, which are of its entry.
struct Segment {
  std::vector<int> tokens;
  int parent = -1;  // an earlier one, or -1
  int entry = kOnlyExpert;
};

// A pass over a tree, with pages from a pool that it gives back at its end.
class TreePass {
 public:
  TreePass(const std::vector<Segment>& segments, PagePool& pool);
  ~TreePass();
  TreePass(const TreePass&) = delete;
  TreePass& operator=(const TreePass&) = delete;

  const Pass& pass() const { return pass_; }
  int64_t first_row(int segment) const { return first_rows_[size_t(segment)]; }
  int64_t last_row(int segment) const { return first_rows_[size_t(segment) + 1] - 1; }
  const Pages& pages(int segment) const { return pages_[size_t(segment)]; }

 private:
  PagePool& pool_;
  Pass pass_;
  std::vector<int64_t> first_rows_;
  std::vector<int64_t> lengths_;  // of each segment's sequence, its ancestors' included
  std::vector<Pages> pages_;
};

}  // namespace svfleet
