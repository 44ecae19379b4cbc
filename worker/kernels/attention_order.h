// Keeps tiles that are computed at the same time from adding to a page out of turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace svfleet {

// Tiles 0, 1, ... of one kv head go through pages 0, 1, ... each; a tile comes to a page after all
// tiles before it have left that page. Tiles must be begun in their order.
class PageOrder {
 public:
  explicit PageOrder(int64_t tiles);

  // Returns when it is this tile's turn at the page.
  void wait(int64_t tile, int64_t page) const;
  // The tile has left this page and all before it.
  void leave(int64_t tile, int64_t page);
  void finish(int64_t tile);

 private:
  std::unique_ptr<std::atomic<int64_t>[]> left_;  // per tile: pages that it has left
  mutable std::atomic<int64_t> unfinished_ = 0;   // all tiles below are finished
};

}  // namespace svfleet
