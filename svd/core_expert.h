// A core's coefficients as an expert file has them: docs/formats.md. No torch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "svd/core.h"

namespace svfleet {

// An expert without metadata.
Expert as_expert(const Core& core, std::span<const float> z);

// What the coefficients of an expert file are: its kind, components and rank; of tiny, blocks.
// Error(kExitUser) naming the file where that is of a newer version.
CoreOptions core_of(const Expert& expert, const std::string& path);
// The tensors in an expert file that target t's coefficients are, one behind the other.
struct ExpertTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset;  // in z
};
std::vector<ExpertTensor> tensors_of(const Core& core, size_t t);

}  // namespace svfleet
