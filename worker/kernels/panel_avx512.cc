// panel_kernel.h in AVX-512.
#include <immintrin.h>

#include "worker/kernels/panel_block.h"

namespace svfleet {
namespace {

struct Vector {
  static constexpr int kWidth = 16;
  static constexpr int kGroup = 1;
  __m512 v;
  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector load(const bf16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    // With a mask of all, for GCC's bug 105593: the plain intrinsics seem to use what is not set.
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, bits);
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, wide, 16))};
  }
  static Vector broadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static void store(float* p, Vector a) { _mm512_storeu_ps(p, a.v); }
};

constexpr int kRows = 12;  // of a whole panel: 24 sums of the 32 registers
constexpr int kSums = 24;

}  // namespace

template <>
PanelKernel<bf16> avx512_panel_kernel() {
  return panel_kernel_of<bf16, float>(kRows, multiply_rows<Vector, kSums, kRows, bf16, float>);
}
template <>
PanelKernel<float> avx512_panel_kernel() {
  return panel_kernel_of<float, float>(kRows, multiply_rows<Vector, kSums, kRows, float, float>);
}

}  // namespace svfleet
