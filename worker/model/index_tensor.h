// Row numbers and labels as a tensor.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace svfleet {

inline at::Tensor index_tensor(const std::vector<int64_t>& values, at::Device device) {
  at::Tensor t = at::empty({int64_t(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t.to(device);
}

}  // namespace svfleet
