#include "worker/weights.h"

#include <ATen/ATen.h>

#include <cstring>
#include <sstream>

#include "comm/error.h"

namespace svfleet {
namespace {

at::ScalarType scalar_type(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return at::kFloat;
    case TensorType::kBF16:
      return at::kBFloat16;
    case TensorType::kF16:
      return at::kHalf;
    case TensorType::kF64:
      return at::kDouble;
  }
  SVFLEET_CHECK(false, "unknown tensor type ", int(type));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream out;
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? " x " : "") << shape[i];
  return out.str();
}

}  // namespace

at::Tensor read_weight(const SafetensorsFolder& files, const std::string& name,
                       const std::vector<int64_t>& shape, at::ScalarType type) {
  const TensorView& view = files.at(name);
  if (view.shape != shape)
    throw user_error("tensor '", name, "' is ", shape_text(view.shape),
                     ", but config.json makes it ", shape_text(shape),
                     "; the model folder's files do not belong together");
  at::Tensor stored = at::empty(shape, scalar_type(view.type));
  std::memcpy(stored.data_ptr(), view.data, view.bytes);
  return stored.to(type);
}

}  // namespace svfleet
