// From a tensor's type to the type of its numbers: with_type(type, [](auto zero) {...}).
#pragma once

#include <ATen/core/Tensor.h>

#include "comm/error.h"
#include "worker/kernels/bf16.h"

namespace svfleet {

// Calls f with a value of bf16, float or double.
template <class F>
decltype(auto) with_type(at::ScalarType type, F&& f) {
  if (type == at::kBFloat16) return f(bf16{});
  if (type == at::kFloat) return f(0.0f);
  SVFLEET_CHECK(type == at::kDouble, "type ", int(type));
  return f(0.0);
}

template <class T>
T* data_of(const at::Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// What sums of this type are in: float64 of float64, float32 of the others.
inline at::ScalarType wide_of(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}
inline at::ScalarType wide_of(const at::Tensor& t) {
  return wide_of(t.scalar_type());
}

}  // namespace svfleet
