// What attention.cc shares out, and the three versions that compute it.
#pragma once

#include "worker/kernels/attention_row.h"
#include "worker/kernels/pages.h"

namespace svfleet {

// Consecutive rows, in the heads of one kv head.
template <class T, class Row>
struct Tile {
  const AttentionShape* shape;
  int kv_head;
  const Row* rows;
  int count;
  Wide<T>* scratch;  // scratch_elements of them, aligned to 64 bytes
};
template <class T>
using AttentionTile = Tile<T, AttentionRow<T>>;
template <class T>
using AttentionGradientTile = Tile<T, AttentionGradientRow<T>>;

// Enough for either kind of tile.
int64_t scratch_elements(const AttentionShape& shape, int rows);

template <class T>
void attend_plain(const AttentionTile<T>& tile);
template <class T>
void attend_gradient_plain(const AttentionGradientTile<T>& tile);

// bf16 and float alone.
template <class T>
void attend_avx2(const AttentionTile<T>& tile);
template <class T>
void attend_gradient_avx2(const AttentionGradientTile<T>& tile);
template <class T>
void attend_avx512(const AttentionTile<T>& tile);
template <class T>
void attend_gradient_avx512(const AttentionGradientTile<T>& tile);

}  // namespace svfleet
