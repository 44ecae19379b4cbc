// attention_tile.h in AVX2.
#include <immintrin.h>

#include "worker/kernels/attention_backward.h"
#include "worker/kernels/attention_forward.h"

namespace svfleet {
namespace {

// See PlainLanes. Lanes 0..7 and 8..15.
struct Avx2Lanes {
  using Number = float;
  using Lanes = Avx2Lanes;
  static constexpr int kQueries = 1;
  static constexpr int kRows = 2;
  __m256 low, high;

  SVFLEET_INLINE static Lanes all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  SVFLEET_INLINE static Lanes load(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  SVFLEET_INLINE static void store(float* p, Lanes a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
  }
  SVFLEET_INLINE static Lanes add(Lanes a, Lanes b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  SVFLEET_INLINE static Lanes subtract(Lanes a, Lanes b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  SVFLEET_INLINE static Lanes multiply(Lanes a, Lanes b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  SVFLEET_INLINE static Lanes divide(Lanes a, Lanes b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  SVFLEET_INLINE static Lanes fma(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  SVFLEET_INLINE static Lanes largest(Lanes a, Lanes b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  SVFLEET_INLINE static __m256 less(__m256 a, __m256 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  SVFLEET_INLINE static Lanes where_less(Lanes a, Lanes b, Lanes yes, Lanes no) {
    return {_mm256_blendv_ps(no.low, yes.low, less(a.low, b.low)),
            _mm256_blendv_ps(no.high, yes.high, less(a.high, b.high))};
  }
  SVFLEET_INLINE static __m256i first_lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  SVFLEET_INLINE static Lanes keep(Lanes a, int count, Lanes other) {
    return {_mm256_blendv_ps(other.low, a.low, _mm256_castsi256_ps(first_lanes(count))),
            _mm256_blendv_ps(other.high, a.high, _mm256_castsi256_ps(first_lanes(count - 8)))};
  }
  SVFLEET_INLINE static __m256 power(__m256 shifted) {
    const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3f800000)));
  }
  SVFLEET_INLINE static Lanes power(Lanes shifted) {
    return {power(shifted.low), power(shifted.high)};
  }

  SVFLEET_INLINE static float max_of(Lanes a) {
    const __m256 b = _mm256_max_ps(a.low, a.high);
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
  }
  SVFLEET_INLINE static float sum_of(Lanes a) {
    const __m256 b = _mm256_add_ps(a.low, a.high);
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
  }

  SVFLEET_INLINE static void split(__m256i low, __m256i high, Lanes& a, Lanes& b) {
    const __m256i upper = _mm256_set1_epi32(0xffff0000);
    a.low = _mm256_castsi256_ps(_mm256_slli_epi32(low, 16));
    a.high = _mm256_castsi256_ps(_mm256_slli_epi32(high, 16));
    b.low = _mm256_castsi256_ps(_mm256_and_si256(low, upper));
    b.high = _mm256_castsi256_ps(_mm256_and_si256(high, upper));
  }
  SVFLEET_INLINE static __m256i load_bits(const bf16* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  SVFLEET_INLINE static __m256i load_bits(const bf16* p, int words) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), first_lanes(words));
  }
  SVFLEET_INLINE static void load_pair(const bf16* p, Lanes& a, Lanes& b) {
    split(load_bits(p), load_bits(p + 16), a, b);
  }
  SVFLEET_INLINE static void load_pair(const bf16* p, int count, Lanes& a, Lanes& b) {
    split(load_bits(p, count / 2), load_bits(p + 16, count / 2 - 8), a, b);
  }
  SVFLEET_INLINE static void load_pair(const float* p, Lanes& a, Lanes& b) {
    a = load(p);
    b = load(p + 16);
  }
  SVFLEET_INLINE static Lanes load_some(const float* p, int count) {
    return {_mm256_maskload_ps(p, first_lanes(count)),
            _mm256_maskload_ps(p + 8, first_lanes(count - 8))};
  }
  SVFLEET_INLINE static void store_some(float* p, int count, Lanes a) {
    _mm256_maskstore_ps(p, first_lanes(count), a.low);
    _mm256_maskstore_ps(p + 8, first_lanes(count - 8), a.high);
  }
  SVFLEET_INLINE static void load_pair(const float* p, int count, Lanes& a, Lanes& b) {
    a = load_some(p, count);
    b = load_some(p + 16, count - 16);
  }
  // bfloat16 in the upper halves.
  SVFLEET_INLINE static __m256i rounded(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(up, nan, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
  }
  SVFLEET_INLINE static void store_words(bf16* p, int words, __m256 a, __m256 b) {
    const __m256i odd = _mm256_and_si256(rounded(b), _mm256_set1_epi32(0xffff0000));
    const __m256i pairs = _mm256_or_si256(_mm256_srli_epi32(rounded(a), 16), odd);
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), first_lanes(words), pairs);
  }
  SVFLEET_INLINE static void store_pair(bf16* p, int count, Lanes a, Lanes b) {
    store_words(p, count / 2, a.low, b.low);
    store_words(p + 16, count / 2 - 8, a.high, b.high);
  }
  SVFLEET_INLINE static void store_pair(float* p, int count, Lanes a, Lanes b) {
    store_some(p, count, a);
    store_some(p + 16, count - 16, b);
  }
  SVFLEET_INLINE static Lanes interleave(__m256 a, __m256 b) {
    const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    return {_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
  }
  SVFLEET_INLINE static void interleave(Lanes& a, Lanes& b) {
    const Lanes first = interleave(a.low, b.low);
    b = interleave(a.high, b.high);
    a = first;
  }

  SVFLEET_INLINE static __m256 load_row(const float* p, int count) {
    return _mm256_maskload_ps(p, first_lanes(count));
  }
  SVFLEET_INLINE static __m256 load_row(const bf16* p, int count) {
    const __m128i some = _mm256_castsi256_si128(first_lanes(count / 2));
    const __m128i words = _mm_maskload_epi32(reinterpret_cast<const int*>(p), some);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
  }
  template <class T>
  SVFLEET_INLINE static void turn8(const T* from, int64_t from_stride, int rows, int columns,
                                   float* to, int64_t to_stride) {
    __m256 r[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
      r[i] = i < rows ? load_row(from + i * from_stride, columns) : _mm256_setzero_ps();
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // 4x4 in each half
      const __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
      const __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]),
                   d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
      t[i] = _mm256_shuffle_ps(a, c, 0x44);
      t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
      t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
      t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // halves to their places
      r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
      r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
      if (i < columns) _mm256_maskstore_ps(to + i * to_stride, first_lanes(rows), r[i]);
  }
  template <class T>
  SVFLEET_INLINE static void turn(const T* from, int64_t from_stride, int rows, int columns,
                                  float* to, int64_t to_stride) {
    for (int i = 0; i < rows; i += 8)
      for (int j = 0; j < columns; j += 8)
        turn8(from + i * from_stride + j, from_stride, rows - i, columns - j,
              to + j * to_stride + i, to_stride);
  }
};

}  // namespace

template <class T>
void attend_avx2(const AttentionTile<T>& tile) {
  attend_tile<Avx2Lanes>(tile);
}
template <class T>
void attend_gradient_avx2(const AttentionGradientTile<T>& tile) {
  attend_gradient_tile<Avx2Lanes>(tile);
}
template void attend_avx2(const AttentionTile<bf16>&);
template void attend_avx2(const AttentionTile<float>&);
template void attend_gradient_avx2(const AttentionGradientTile<bf16>&);
template void attend_gradient_avx2(const AttentionGradientTile<float>&);

}  // namespace svfleet
