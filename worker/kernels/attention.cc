#include "worker/kernels/attention.h"

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "worker/kernels/attention_order.h"
#include "worker/kernels/attention_tile.h"
#include "worker/kernels/instruction_set.h"
#include "worker/kernels/team.h"

namespace svfleet {
namespace {

constexpr int kTileRows = 16;  // that share a page's loads
constexpr int kTileQueries = 64;
constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(void* p) const { ::operator delete(p, kAlignment); }
};

// 64-byte aligned memory of each member of a team, taken before they begin: no exception may leave
// their parts.
template <class W>
class Scratch {
 public:
  Scratch(const AttentionShape& shape, int rows, int threads) {
    const size_t bytes = scratch_elements(shape, rows) * sizeof(W);
    for (int t = 0; t < threads; ++t)
      all_.emplace_back(static_cast<W*>(::operator new(bytes, kAlignment)));
  }
  W* of(int member) const { return all_[size_t(member)].get(); }

 private:
  std::vector<std::unique_ptr<W, Free>> all_;
};

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

void wait_for_page(const PageOrder& order, int64_t tile, int64_t page) {
  order.wait(tile, page);
}
void leave_page(PageOrder& order, int64_t tile, int64_t page) {
  order.leave(tile, page);
}

template <class T>
void attend(const AttentionShape& shape, std::span<const AttentionRow<T>> rows, int threads) {
  const int64_t count = rows.size();
  const int most = team_size(threads);
  // Large tiles share pages, small ones share out the work.
  const int64_t wanted = (count * shape.kv_heads + 4 * most - 1) / (4 * most);
  const int64_t tile =
      most > 1 ? std::clamp<int64_t>(wanted, 1, tile_rows(shape)) : tile_rows(shape);
  const int64_t items = (count + tile - 1) / tile * shape.kv_heads;
  const Scratch<Wide<T>> memory(shape, int(tile), most);
  in_parts(items, most, [&](int64_t item, int member) {
    const int64_t first = item / shape.kv_heads * tile;
    attend<T>(AttentionTile<T>{&shape, int(item % shape.kv_heads), rows.data() + first,
                               int(std::min(tile, count - first)), memory.of(member)});
  });
}

template <class T>
void attend_gradient(const AttentionShape& shape, std::span<const AttentionGradientRow<T>> rows,
                     int threads) {
  const int64_t count = rows.size(), rows_each = tile_rows(shape);
  const int64_t tiles = (count + rows_each - 1) / rows_each;
  const int most = team_size(threads);
  std::vector<std::unique_ptr<PageOrder>> orders(shape.kv_heads);  // or nullptr with one thread
  if (most > 1)
    for (auto& order : orders) order = std::make_unique<PageOrder>(tiles);
  const Scratch<Wide<T>> memory(shape, int(rows_each), most);
  // In their order: a tile must not begin before one that it waits for.
  in_parts(tiles * shape.kv_heads, most, [&](int64_t item, int member) {
    const int64_t tile = item / shape.kv_heads, first = tile * rows_each;
    const int kv_head = item % shape.kv_heads;
    attend_gradient<T>(AttentionGradientTile<T>{&shape, kv_head, rows.data() + first,
                                                int(std::min(rows_each, count - first)),
                                                memory.of(member), orders[kv_head].get(), tile});
    if (orders[kv_head]) orders[kv_head]->finish(tile);
  });
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
