// A matcher of numbers that are equal but for double's rounding.
#pragma once

#include <gmock/gmock.h>

#include <vector>

namespace svfleet {

inline auto near(std::vector<double> values) {
  return testing::Pointwise(testing::DoubleNear(1e-14), values);
}

}  // namespace svfleet
