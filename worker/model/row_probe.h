// From how many rows on a product gives a row the same bits whatever rows stand beside it: looked
// at once for each kind of matrix in a process.
#pragma once

#include <cstdint>

#include "worker/kernels/product.h"

namespace svfleet {

// Error(kExitUser) where there is no such number: what svfleet promises does not hold there.
int64_t least_rows(const PackedMatrix& matrix, NumberType type, WeightOrder order, int threads);

}  // namespace svfleet
