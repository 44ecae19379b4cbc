// One row of an attention: its query, the pages of its sequence, and where the results go.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

// Attends to tokens 0 .. keys-1 of its own sequence, or the last AttentionShape::window of them;
// token j is slot j % 32 of pages[j / 32].
template <class T>
struct AttentionRow {
  const T* q;  // [heads * head_dim]
  const T* const* pages;
  int64_t keys;
  T* out;            // [heads * head_dim]; may be q
  Wide<T>* log_sum;  // [heads], or nullptr where no gradient follows
};

template <class T>
struct AttentionGradientRow {
  const T* q;              // [heads * head_dim], as are out and d_out
  const T* out;            // what attend gave
  const Wide<T>* log_sum;  // [heads], what attend gave
  const T* d_out;
  const T* const* pages;
  Wide<T>* const* d_pages;  // as pages lie; added to
  int64_t keys;
  Wide<T>* d_q;  // [heads * head_dim], written
};

}  // namespace svfleet
