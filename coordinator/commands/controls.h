// Experts that must not work: what the figure of an expert is compared with before it is believed.
#pragma once

#include <vector>

#include "svd/target.h"

namespace svfleet {

// z permuted within each matrix (keyed, always the same): the same moves at the wrong places.
std::vector<float> shuffled(const std::vector<Target>& targets, const std::vector<float>& z);
// z back to front within each matrix: the moves of the largest singular values at the smallest.
std::vector<float> reversed(const std::vector<Target>& targets, const std::vector<float>& z);
// z mirrored about 1: every move in the opposite direction.
std::vector<float> mirrored(const std::vector<float>& z);

}  // namespace svfleet
