// bfloat16 as it lies in memory, and the types that numbers of a model are computed in.
#pragma once

#include <bit>
#include <cstdint>

namespace svfleet {

struct bf16 {
  uint16_t bits;
};

inline float widen(bf16 x) {
  return std::bit_cast<float>(uint32_t(x.bits) << 16);
}
inline float widen(float x) {
  return x;
}
inline double widen(double x) {
  return x;
}

// To the nearest, ties to even; a NaN stays one.
inline bf16 to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (x != x) return {uint16_t((bits >> 16) | 0x40)};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// Wide<T>: what is added up in, and what a T is rounded from.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bf16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class T>
T narrow(Wide<T> x) {
  if constexpr (sizeof(T) == 2)
    return to_bf16(x);
  else
    return x;
}

}  // namespace svfleet
