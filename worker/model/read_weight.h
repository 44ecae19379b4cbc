// A tensor of a model folder as an aligned tensor of the wanted type.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "checkpoints/safetensors.h"

namespace svfleet {

// Copies (mapped bytes may be unaligned, which changes the bits of a product). Error(kExitUser)
// naming the tensor when it is missing or its shape is not `shape`.
at::Tensor read_weight(const SafetensorsFolder& files, const std::string& name,
                       const std::vector<int64_t>& shape, at::ScalarType type);

}  // namespace svfleet
