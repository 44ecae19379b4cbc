// The lanes of lanes.h in AVX2 with FMA: two registers.
#pragma once

#include <immintrin.h>

#include "worker/kernels/lanes.h"

namespace svfleet {
namespace {

struct Avx2Lanes {
  using Scalar = float;
  __m256 low, high;

  static Avx2Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static __m256 widened(const bf16* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  // To the nearest, ties to even, a NaN quiet; each in the lower half of 32 bits.
  static __m256i rounded(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x), upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return with_nans(x, _mm256_srli_epi32(up, 16));
  }
  static __m256i with_nans(__m256 x, __m256i bits) {
    const __m256i upper = _mm256_srli_epi32(_mm256_castps_si256(x), 16);
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(bits, quiet, nan);
  }

  static Avx2Lanes load(const float* from, AllLanes, float = 0) {
    return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  }
  static Avx2Lanes load(const bf16* from, AllLanes, float = 0) {
    return {widened(from), widened(from + 8)};
  }
  static Avx2Lanes load(const float* from, int count, float rest = 0) {
    float copy[kLanes];
    for (int i = 0; i < kLanes; ++i) copy[i] = i < count ? from[i] : rest;
    return load(copy, AllLanes());
  }
  static Avx2Lanes load(const bf16* from, int count, float rest = 0) {
    float copy[kLanes];
    for (int i = 0; i < kLanes; ++i)
      copy[i] = i < count ? __builtin_bit_cast(float, uint32_t(from[i].bits) << 16) : rest;
    return load(copy, AllLanes());
  }
  void store(float* to, AllLanes) const {
    _mm256_storeu_ps(to, low);
    _mm256_storeu_ps(to + 8, high);
  }
  void store(bf16* to, AllLanes) const { store_halves(to, rounded(low), rounded(high)); }
  template <class T>
  void store(T* to, int count) const {
    T copy[kLanes];
    store(copy, AllLanes());
    for (int i = 0; i < count; ++i) to[i] = copy[i];
  }
  static void store_halves(bf16* to, __m256i a, __m256i b) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed);
  }
  template <class T>
  Avx2Lanes rounded_to() const {
    if constexpr (sizeof(T) == 2)
      return {_mm256_castsi256_ps(_mm256_slli_epi32(rounded(low), 16)),
              _mm256_castsi256_ps(_mm256_slli_epi32(rounded(high), 16))};
    else
      return *this;
  }
  static __m256i carried(__m256 x, const uint16_t* random) {
    const __m256i below =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(random)));
    const __m256i sum = _mm256_add_epi32(_mm256_castps_si256(x), below);
    return with_nans(x, _mm256_srli_epi32(sum, 16));
  }
  void store_keyed(bf16* to, const uint16_t* random, AllLanes) const {
    store_halves(to, carried(low, random), carried(high, random + 8));
  }
  void store_keyed(bf16* to, const uint16_t* random, int count) const {
    bf16 copy[kLanes];
    store_keyed(copy, random, AllLanes());
    for (int i = 0; i < count; ++i) to[i] = copy[i];
  }

  friend Avx2Lanes operator+(Avx2Lanes a, Avx2Lanes b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  friend Avx2Lanes operator-(Avx2Lanes a, Avx2Lanes b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  friend Avx2Lanes operator*(Avx2Lanes a, Avx2Lanes b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  friend Avx2Lanes operator/(Avx2Lanes a, Avx2Lanes b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  friend Avx2Lanes fma(Avx2Lanes a, Avx2Lanes b, Avx2Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  friend Avx2Lanes max(Avx2Lanes a, Avx2Lanes b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  friend Avx2Lanes where_less(Avx2Lanes a, Avx2Lanes b, Avx2Lanes x, Avx2Lanes y) {
    return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  static __m256 power(__m256 t) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x3f800000)));
  }
  friend Avx2Lanes two_to_the(Avx2Lanes t) { return {power(t.low), power(t.high)}; }
  float sum() const {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(low, high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

}  // namespace
}  // namespace svfleet
