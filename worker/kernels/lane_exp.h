// exp of 16 numbers.
#pragma once

#include "worker/kernels/lanes.h"

namespace svfleet {
namespace {

// exp of numbers up to 0 (in float up to 88.37). Of double: std::exp. Of float: 2^n p(r) with x =
// n log 2 + r, |r| <= log(2) / 2 and the polynomial of Cephes' expf; the relative error is below
// 1.2e-7. Below the logarithm of the smallest normal number it is 0; of a NaN it is one.
template <class L>
inline L exp_up_to_zero(const L& x) {
  using W = typename L::Scalar;
  if constexpr (sizeof(W) == 8) {
    return L::make([&](int i) { return std::exp(x.v[i]); });
  } else {
    const L shift = L::set(12582912.0f);  // 1.5 * 2^23: what is added to it loses its fraction
    const L t = fma(x, L::set(1.44269504088896341f), shift);
    const L n = t - shift;
    L r = fma(n, L::set(-0.693359375f), x);
    r = fma(n, L::set(2.12194440e-4f), r);
    L p = fma(L::set(1.9875691500e-4f), r, L::set(1.3981999507e-3f));
    p = fma(p, r, L::set(8.3334519073e-3f));
    p = fma(p, r, L::set(4.1665795894e-2f));
    p = fma(p, r, L::set(1.6666665459e-1f));
    p = fma(p, r, L::set(5.0000001201e-1f));
    p = fma(p, r * r, r) + L::set(1.0f);
    return where_less(x, L::set(-87.33654f), L::set(0.0f), p * two_to_the(t));
  }
}

// The same of any number; in float infinity above 88.376 (and not only from 88.723).
template <class L>
inline L exp(const L& x) {
  const L y = exp_up_to_zero(x);
  if constexpr (sizeof(typename L::Scalar) == 8)
    return y;
  else
    return where_less(L::set(88.376f), x, L::set(__builtin_inff()), y);
}

}  // namespace
}  // namespace svfleet
