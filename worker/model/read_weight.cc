#include "worker/model/read_weight.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <sstream>

#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

at::ScalarType scalar_type(const TensorView& view) {
  switch (view.type) {
    case TensorType::kF32:
      return at::kFloat;
    case TensorType::kBF16:
      return at::kBFloat16;
    case TensorType::kF16:
      return at::kHalf;
    case TensorType::kF64:
      return at::kDouble;
    case TensorType::kOther:
      break;
  }
  throw user_error("tensor '", view.name, "' has type ", view.dtype,
                   "; only F32, BF16, F16 and F64 can be read: use the model's float folder");
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
  at::Tensor stored = at::empty(shape, scalar_type(view));
  const InStage loading(Stage::kLoad);
  constexpr size_t kPiece = size_t{16} << 20;  // so that a file that is being read is seen to move
  auto* to = static_cast<std::byte*>(stored.data_ptr());
  for (size_t at = 0; at < view.bytes; at += kPiece) {
    enter(Stage::kLoad);
    std::memcpy(to + at, view.data + at, std::min(kPiece, view.bytes - at));
  }
  return stored.to(type);
}

}  // namespace svfleet
