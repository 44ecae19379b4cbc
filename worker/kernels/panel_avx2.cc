// panel_kernel.h in AVX2.
#include <immintrin.h>

#include "worker/kernels/panel_block.h"

namespace svfleet {
namespace {

struct Vector {
  static constexpr int kWidth = 8;
  static constexpr int kGroup = 1;
  __m256 v;
  static Vector zero() { return {_mm256_setzero_ps()}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vector load(const bf16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  static Vector broadcast(const float* p) { return {_mm256_broadcast_ss(p)}; }
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static void store(float* p, Vector a) { _mm256_storeu_ps(p, a.v); }
};

constexpr int kRows = 6;  // of half a panel: 12 sums of the 16 registers
constexpr int kSums = 12;

}  // namespace

template <>
PanelKernel<bf16> avx2_panel_kernel() {
  return panel_kernel_of<bf16, float>(kRows, multiply_rows<Vector, kSums, kRows, bf16, float>);
}
template <>
PanelKernel<float> avx2_panel_kernel() {
  return panel_kernel_of<float, float>(kRows, multiply_rows<Vector, kSums, kRows, float, float>);
}

}  // namespace svfleet
