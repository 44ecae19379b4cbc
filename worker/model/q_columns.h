// The columns of Q of the components that move. Where z is 1, z - 1 adds nothing, and a product
// needs to read no column of it.
//
// The bits are those of all of Q. In x Q each column's sum is its own. In (d o x) Q^T the sum goes
// over the components: in one float, fused and in their order, so that a term of zero leaves it as
// it is. Some instructions add two neighbours of bfloat16 at once, which whole blocks of
// components keep together. That a processor does so is tried once for each shape; where it does
// not, all of Q is read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/model/matrix.h"

namespace svfleet {

constexpr int64_t kColumnBlock = 32;

struct QColumns {
  std::vector<int64_t> places;  // in Q, ascending, in whole blocks
  Matrix q;                     // [rows of Q, places], packed in both directions
};

// The places of the blocks that hold all components that move; none where none does.
std::vector<int64_t> block_places(const std::vector<bool>& moved);

// nullptr where these are more than half of all, where products with them have other bits than
// products with all of `q`, or on a GPU. Finite numbers only: all of Q makes a NaN of an infinity
// in a component that stays.
std::shared_ptr<const QColumns> columns_of(const Matrix& q, std::vector<int64_t> places);

}  // namespace svfleet
