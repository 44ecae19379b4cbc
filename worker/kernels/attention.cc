#include "worker/kernels/attention.h"

#include <omp.h>

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>

#include "worker/kernels/attention_tile.h"
#include "worker/kernels/instruction_set.h"

namespace svfleet {
namespace {

constexpr int kTileRows = 16;  // that share a page's loads
constexpr int kTileQueries = 64;
constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(void* p) const { ::operator delete(p, kAlignment); }
};

// 64-byte aligned memory of one thread.
template <class W>
std::unique_ptr<W, Free> scratch(const AttentionShape& shape, int rows) {
  const size_t bytes = scratch_elements(shape, rows) * sizeof(W);
  return std::unique_ptr<W, Free>(static_cast<W*>(::operator new(bytes, kAlignment)));
}

int tile_rows(const AttentionShape& shape) {
  return std::clamp(kTileQueries / (shape.heads / shape.kv_heads), 1, kTileRows);
}

template <class T>
void attend(const AttentionTile<T>& tile) {
  if constexpr (!std::is_same_v<T, double>) {
    if (kernels() == Kernels::kAvx512) return attend_avx512(tile);
    if (kernels() == Kernels::kAvx2) return attend_avx2(tile);
  }
  attend_plain(tile);
}

template <class T>
void attend_gradient(const AttentionGradientTile<T>& tile) {
  if constexpr (!std::is_same_v<T, double>) {
    if (kernels() == Kernels::kAvx512) return attend_gradient_avx512(tile);
    if (kernels() == Kernels::kAvx2) return attend_gradient_avx2(tile);
  }
  attend_gradient_plain(tile);
}

}  // namespace

template <class T>
void attend(const AttentionShape& shape, std::span<const AttentionRow<T>> rows, int threads) {
  const int64_t count = rows.size();
  // Large tiles share pages, small ones share out the work.
  const int64_t wanted = (count * shape.kv_heads + 4 * threads - 1) / (4 * threads);
  const int64_t tile =
      threads > 1 ? std::clamp<int64_t>(wanted, 1, tile_rows(shape)) : tile_rows(shape);
  const int64_t items = (count + tile - 1) / tile * shape.kv_heads;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const auto memory = scratch<Wide<T>>(shape, tile);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t first = item / shape.kv_heads * tile;
      attend<T>(AttentionTile<T>{&shape, int(item % shape.kv_heads), rows.data() + first,
                                 int(std::min(tile, count - first)), memory.get()});
    }
  }
}

template <class T>
void attend_gradient(const AttentionShape& shape, std::span<const AttentionGradientRow<T>> rows,
                     int threads) {
  const int64_t count = rows.size(), tile = tile_rows(shape);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const auto memory = scratch<Wide<T>>(shape, tile);
#pragma omp for schedule(dynamic)
    for (int head = 0; head < shape.kv_heads; ++head)
      for (int64_t first = 0; first < count; first += tile)
        attend_gradient<T>(AttentionGradientTile<T>{
            &shape, head, rows.data() + first, int(std::min(tile, count - first)), memory.get()});
  }
}

#define SVFLEET_ATTENTION(T)                                                             \
  template void attend<T>(const AttentionShape&, std::span<const AttentionRow<T>>, int); \
  template void attend_gradient<T>(const AttentionShape&,                                \
                                   std::span<const AttentionGradientRow<T>>, int);
SVFLEET_ATTENTION(bf16)
SVFLEET_ATTENTION(float)
SVFLEET_ATTENTION(double)
#undef SVFLEET_ATTENTION

}  // namespace svfleet
