#include "worker/kernels/pages.h"

#include <algorithm>

namespace svfleet {
namespace {

// Calls each(keys [head_dim][32], values [32][head_dim]) with the offsets in a page, per kv head.
template <class Each>
void for_each_head(const AttentionShape& shape, Each each) {
  const int64_t half = int64_t(shape.head_dim) * kPageTokens;
  for (int head = 0; head < shape.kv_heads; ++head)
    each(head, head * 2 * half, head * 2 * half + half);
}

}  // namespace

int64_t page_elements(const AttentionShape& shape) {
  return int64_t(2) * shape.kv_heads * shape.head_dim * kPageTokens;
}

template <class T>
void store_key_value(const AttentionShape& shape, T* page, int slot, const T* key, const T* value) {
  const int64_t dim = shape.head_dim;
  for_each_head(shape, [&](int head, int64_t keys, int64_t values) {
    for (int64_t d = 0; d < dim; ++d) page[keys + d * kPageTokens + slot] = key[head * dim + d];
    std::copy_n(value + head * dim, dim, page + values + slot * dim);
  });
}

template <class T>
void copy_slots(const AttentionShape& shape, const T* from, T* to, int slots) {
  const int64_t dim = shape.head_dim;
  for_each_head(shape, [&](int, int64_t keys, int64_t values) {
    for (int64_t d = 0; d < dim; ++d)
      std::copy_n(from + keys + d * kPageTokens, slots, to + keys + d * kPageTokens);
    std::copy_n(from + values, slots * dim, to + values);
  });
}

template <class T>
void add_slots(const AttentionShape& shape, const Wide<T>* from, Wide<T>* to, int slots) {
  const int64_t dim = shape.head_dim;
  const auto add = [&](int64_t begin, int64_t count) {
    for (int64_t i = begin; i < begin + count; ++i) to[i] += from[i];
  };
  for_each_head(shape, [&](int, int64_t keys, int64_t values) {
    for (int64_t d = 0; d < dim; ++d) add(keys + d * kPageTokens, slots);
    add(values, slots * dim);
  });
}

template <class T>
void load_gradient(const AttentionShape& shape, const Wide<T>* d_page, int slot, Wide<T>* d_key,
                   Wide<T>* d_value) {
  const int64_t dim = shape.head_dim;
  for_each_head(shape, [&](int head, int64_t keys, int64_t values) {
    for (int64_t d = 0; d < dim; ++d) d_key[head * dim + d] = d_page[keys + d * kPageTokens + slot];
    std::copy_n(d_page + values + slot * dim, dim, d_value + head * dim);
  });
}

#define SVFLEET_PAGES(T)                                                                \
  template void store_key_value<T>(const AttentionShape&, T*, int, const T*, const T*); \
  template void copy_slots<T>(const AttentionShape&, const T*, T*, int);                \
  template void add_slots<T>(const AttentionShape&, const Wide<T>*, Wide<T>*, int);     \
  template void load_gradient<T>(const AttentionShape&, const Wide<T>*, int, Wide<T>*, Wide<T>*);
SVFLEET_PAGES(bf16)
SVFLEET_PAGES(float)
SVFLEET_PAGES(double)
#undef SVFLEET_PAGES

}  // namespace svfleet
