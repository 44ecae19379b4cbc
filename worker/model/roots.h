// What sequences share at their start: a root of the tree of segments for each entry of the table,
// since keys and values under one expert are none of another's.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/decoder.h"

namespace svfleet {

struct Sequence {
  const std::vector<int>* tokens;
  int entry = kOnlyExpert;
};

// Begins `batch`, which is empty, with the common prefixes, an entry after the other in the order
// in which the sequences name them; returns for each sequence the segment of its root, or -1.
std::vector<int> add_roots(const std::vector<Sequence>& sequences, Batch& batch);

// Adds what `sequence` has after its root (or -1) as a segment; returns that segment.
int add_rest(const Sequence& sequence, int root, Batch& batch);

// Tokens that all of these have in common at the start, at least one left to each.
int64_t common_prefix(const std::vector<const std::vector<int>*>& sequences);

}  // namespace svfleet
