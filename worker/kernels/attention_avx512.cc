// attention_tile.h in AVX-512.
#include <immintrin.h>

#include "worker/kernels/attention_backward.h"
#include "worker/kernels/attention_forward.h"

namespace svfleet {
namespace {

SVFLEET_INLINE __mmask16 first_lanes(int count) {
  return count <= 0 ? 0 : count >= 16 ? 0xffff : (1u << count) - 1;
}

// See PlainLanes.
struct Avx512Lanes {
  using Number = float;
  using Lanes = Avx512Lanes;
  static constexpr int kQueries = 6;  // taken at once, as registers allow
  static constexpr int kRows = 8;
  __m512 x;

  SVFLEET_INLINE static Lanes all(float x) { return {_mm512_set1_ps(x)}; }
  SVFLEET_INLINE static Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  SVFLEET_INLINE static void store(float* p, Lanes a) { _mm512_storeu_ps(p, a.x); }
  SVFLEET_INLINE static Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.x, b.x)}; }
  SVFLEET_INLINE static Lanes subtract(Lanes a, Lanes b) { return {_mm512_sub_ps(a.x, b.x)}; }
  SVFLEET_INLINE static Lanes multiply(Lanes a, Lanes b) { return {_mm512_mul_ps(a.x, b.x)}; }
  SVFLEET_INLINE static Lanes divide(Lanes a, Lanes b) { return {_mm512_div_ps(a.x, b.x)}; }
  SVFLEET_INLINE static Lanes fma(Lanes a, Lanes b, Lanes c) {
    return {_mm512_fmadd_ps(a.x, b.x, c.x)};
  }
  SVFLEET_INLINE static Lanes largest(Lanes a, Lanes b) { return {_mm512_max_ps(a.x, b.x)}; }
  SVFLEET_INLINE static Lanes where_less(Lanes a, Lanes b, Lanes yes, Lanes no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.x, b.x, _CMP_LT_OQ), no.x, yes.x)};
  }
  SVFLEET_INLINE static Lanes keep(Lanes a, int count, Lanes other) {
    return {_mm512_mask_blend_ps(first_lanes(count), other.x, a.x)};
  }
  SVFLEET_INLINE static Lanes power(Lanes shifted) {
    const __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(shifted.x), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3f800000)))};
  }

  SVFLEET_INLINE static __m256 high(__m512 a) { return _mm512_extractf32x8_ps(a, 1); }
  SVFLEET_INLINE static float max_of(Lanes a) {
    const __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a.x), high(a.x));
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
  }
  SVFLEET_INLINE static float sum_of(Lanes a) {
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a.x), high(a.x));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
  }

  SVFLEET_INLINE static void split(__m512i pairs, Lanes& a, Lanes& b) {
    a.x = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    b.x = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
  }
  SVFLEET_INLINE static void load_pair(const bf16* p, Lanes& a, Lanes& b) {
    split(_mm512_loadu_si512(p), a, b);
  }
  SVFLEET_INLINE static void load_pair(const bf16* p, int count, Lanes& a, Lanes& b) {
    split(_mm512_maskz_loadu_epi32(first_lanes(count / 2), p), a, b);
  }
  SVFLEET_INLINE static void load_pair(const float* p, Lanes& a, Lanes& b) {
    a = load(p);
    b = load(p + 16);
  }
  SVFLEET_INLINE static void load_pair(const float* p, int count, Lanes& a, Lanes& b) {
    a.x = _mm512_maskz_loadu_ps(first_lanes(count), p);
    b.x = _mm512_maskz_loadu_ps(first_lanes(count - 16), p + 16);
  }
  // bfloat16 in the upper halves.
  SVFLEET_INLINE static __m512i rounded(Lanes a) {
    const __m512i bits = _mm512_castps_si512(a.x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    return _mm512_mask_or_epi32(_mm512_add_epi32(bits, up),
                                _mm512_cmp_ps_mask(a.x, a.x, _CMP_UNORD_Q), bits,
                                _mm512_set1_epi32(0x400000));
  }
  SVFLEET_INLINE static void store_pair(bf16* p, int count, Lanes a, Lanes b) {
    const __m512i odd = _mm512_and_si512(rounded(b), _mm512_set1_epi32(0xffff0000));
    const __m512i pairs = _mm512_or_si512(_mm512_srli_epi32(rounded(a), 16), odd);
    _mm512_mask_storeu_epi32(p, first_lanes(count / 2), pairs);
  }
  SVFLEET_INLINE static void store_pair(float* p, int count, Lanes a, Lanes b) {
    _mm512_mask_storeu_ps(p, first_lanes(count), a.x);
    _mm512_mask_storeu_ps(p + 16, first_lanes(count - 16), b.x);
  }
  SVFLEET_INLINE static void interleave(Lanes& a, Lanes& b) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512 first = _mm512_permutex2var_ps(a.x, low, b.x);
    b.x = _mm512_permutex2var_ps(a.x, high, b.x);
    a.x = first;
  }

  SVFLEET_INLINE static __m512 load_some(const float* p, __mmask16 some) {
    return _mm512_maskz_loadu_ps(some, p);
  }
  SVFLEET_INLINE static __m512 load_some(const bf16* p, __mmask16 some) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  template <class T>
  SVFLEET_INLINE static void turn(const T* from, int64_t from_stride, int rows, int columns,
                                  float* to, int64_t to_stride) {
    __m512 r[16], t[16];
    const __mmask16 some = first_lanes(columns), stored = first_lanes(rows);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      r[i] = i < rows ? load_some(from + i * from_stride, some) : _mm512_setzero_ps();
    const auto wide = [](__m512 a) { return _mm512_castps_pd(a); };
    const auto narrow = [](__m512d a) { return _mm512_castpd_ps(a); };
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {  // 4x4 in each quarter
      const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
      const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]),
                   d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
      t[i] = narrow(_mm512_unpacklo_pd(wide(a), wide(c)));
      t[i + 1] = narrow(_mm512_unpackhi_pd(wide(a), wide(c)));
      t[i + 2] = narrow(_mm512_unpacklo_pd(wide(b), wide(d)));
      t[i + 3] = narrow(_mm512_unpackhi_pd(wide(b), wide(d)));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // quarters to their places
      const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
      const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
      const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
      const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
      r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
      r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
      r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
      r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      if (i < columns) _mm512_mask_storeu_ps(to + i * to_stride, stored, r[i]);
  }
};

}  // namespace

template <class T>
void attend_avx512(const AttentionTile<T>& tile) {
  attend_tile<Avx512Lanes>(tile);
}
template <class T>
void attend_gradient_avx512(const AttentionGradientTile<T>& tile) {
  attend_gradient_tile<Avx512Lanes>(tile);
}
template void attend_avx512(const AttentionTile<bf16>&);
template void attend_avx512(const AttentionTile<float>&);
template void attend_gradient_avx512(const AttentionGradientTile<bf16>&);
template void attend_gradient_avx512(const AttentionGradientTile<float>&);

}  // namespace svfleet
