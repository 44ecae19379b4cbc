// The lanes of lanes.h in AVX-512: one register.
#pragma once

#include <immintrin.h>

#include "worker/kernels/lanes.h"

namespace svfleet {
namespace {

inline __mmask16 first_lanes(int count) {
  return __mmask16((1u << count) - 1);
}

struct Avx512Lanes {
  using Scalar = float;
  __m512 v;

  static Avx512Lanes set(float x) { return {_mm512_set1_ps(x)}; }
  static __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  // To the nearest, ties to even, a NaN quiet; each in the lower half of 32 bits.
  static __m512i rounded(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x), upper = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return with_nans(x, _mm512_srli_epi32(up, 16));
  }
  static __m512i with_nans(__m512 x, __m512i bits) {
    const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
    return _mm512_mask_or_epi32(bits, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), upper,
                                _mm512_set1_epi32(0x40));
  }

  static Avx512Lanes load(const float* from, AllLanes, float = 0) {
    return {_mm512_loadu_ps(from)};
  }
  static Avx512Lanes load(const bf16* from, AllLanes, float = 0) {
    return {widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
  }
  static Avx512Lanes load(const float* from, int count, float rest = 0) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(rest), first_lanes(count), from)};
  }
  static Avx512Lanes load(const bf16* from, int count, float rest = 0) {
    const __mmask16 mask = first_lanes(count);
    const __m512 read = widened(_mm256_maskz_loadu_epi16(mask, from));
    return {_mm512_mask_mov_ps(_mm512_set1_ps(rest), mask, read)};
  }
  void store(float* to, AllLanes) const { _mm512_storeu_ps(to, v); }
  void store(float* to, int count) const { _mm512_mask_storeu_ps(to, first_lanes(count), v); }
  void store(bf16* to, AllLanes all) const { store_halves(to, rounded(v), all); }
  void store(bf16* to, int count) const { store_halves(to, rounded(v), count); }
  static void store_halves(bf16* to, __m512i halves, AllLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(halves));
  }
  static void store_halves(bf16* to, __m512i halves, int count) {
    _mm512_mask_cvtepi32_storeu_epi16(to, first_lanes(count), halves);
  }
  template <class T>
  Avx512Lanes rounded_to() const {
    if constexpr (sizeof(T) == 2)
      return {_mm512_castsi512_ps(_mm512_slli_epi32(rounded(v), 16))};
    else
      return *this;
  }
  template <class Count>
  void store_keyed(bf16* to, const uint16_t* random, Count count) const {
    const __m512i low =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(random)));
    const __m512i carried = _mm512_add_epi32(_mm512_castps_si512(v), low);
    store_halves(to, with_nans(v, _mm512_srli_epi32(carried, 16)), count);
  }

  friend Avx512Lanes operator+(Avx512Lanes a, Avx512Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Avx512Lanes operator-(Avx512Lanes a, Avx512Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Avx512Lanes operator*(Avx512Lanes a, Avx512Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Avx512Lanes operator/(Avx512Lanes a, Avx512Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Avx512Lanes fma(Avx512Lanes a, Avx512Lanes b, Avx512Lanes c) {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
  }
  friend Avx512Lanes max(Avx512Lanes a, Avx512Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
  friend Avx512Lanes where_less(Avx512Lanes a, Avx512Lanes b, Avx512Lanes x, Avx512Lanes y) {
    return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), x.v)};
  }
  friend Avx512Lanes two_to_the(Avx512Lanes t) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x3f800000)))};
  }
  float sum() const {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

}  // namespace
}  // namespace svfleet
