// What attention.cc shares out, and the three versions that compute it.
#pragma once

#include "worker/kernels/attention_row.h"
#include "worker/kernels/pages.h"

namespace svfleet {

class PageOrder;

// Consecutive rows, in the heads of one kv head.
template <class T>
struct AttentionTile {
  const AttentionShape* shape;
  int kv_head;
  const AttentionRow<T>* rows;
  int count;
  Wide<T>* scratch;  // scratch_elements of them, aligned to 64 bytes
};

template <class T>
struct AttentionGradientTile {
  const AttentionShape* shape;
  int kv_head;
  const AttentionGradientRow<T>* rows;
  int count;
  Wide<T>* scratch;
  PageOrder* order;  // or nullptr, where one tile is computed after the other
  int64_t index;     // of this tile, in that order
};

// Of the order, for code that must not include the standard library.
void wait_for_page(const PageOrder& order, int64_t tile, int64_t page);
void leave_page(PageOrder& order, int64_t tile, int64_t page);

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
