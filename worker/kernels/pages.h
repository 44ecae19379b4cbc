// Where the keys and values of one layer lie: in pages of 32 tokens.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

inline constexpr int kPageTokens = 32;

// Query head h uses kv head h / (heads / kv_heads). `scale` is what q.k is multiplied by, commonly
// 1 / sqrt(head_dim).
struct AttentionShape {
  int heads;
  int kv_heads;  // divides heads
  int head_dim;  // even
  double scale;
  double soft_cap = 0;  // above 0: a score s becomes soft_cap tanh(s / soft_cap) (Gemma 2)
  int64_t window = 0;   // above 0: how many tokens a row sees, itself and those just before it
};

// A page is, for each kv head, the keys transposed [head_dim][32], then the values [32][head_dim].
// This many elements: 2 * kv_heads * head_dim * 32.
int64_t page_elements(const AttentionShape& shape);

// Writes one token's key and value, [kv_heads * head_dim] each, into slot 0..31 of a page.
template <class T>
void store_key_value(const AttentionShape& shape, T* page, int slot, const T* key, const T* value);

// Copies the first `slots` tokens of a page, 0..32, into another: for a shared page that is
// written on. The other slots of `to` stay as they are.
template <class T>
void copy_slots(const AttentionShape& shape, const T* from, T* to, int slots);

// The gradient of copy_slots: to += from in the first `slots` tokens.
template <class T>
void add_slots(const AttentionShape& shape, const Wide<T>* from, Wide<T>* to, int slots);

// Reads one token's gradient, [kv_heads * head_dim] each, out of a page's gradient, which lies as
// the page does.
template <class T>
void load_gradient(const AttentionShape& shape, const Wide<T>* d_page, int slot, Wide<T>* d_key,
                   Wide<T>* d_value);

}  // namespace svfleet
