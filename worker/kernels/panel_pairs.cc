// panel_kernel.h by AVX512_BF16, which multiplies pairs of bfloat16 and adds both products.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "worker/kernels/panel_block.h"

namespace svfleet {
namespace {

struct Pairs {
  static constexpr int kWidth = 16;
  static constexpr int kGroup = 2;
  __m512 v;
  static Pairs zero() { return {_mm512_setzero_ps()}; }
  static Pairs load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Pairs load(const bf16* p) { return {_mm512_loadu_ps(p)}; }
  static Pairs broadcast(const bf16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return {_mm512_castsi512_ps(_mm512_set1_epi32(pair))};
  }
  static Pairs fma(Pairs a, Pairs b, Pairs c) {
    return {_mm512_dpbf16_ps(c.v, __m512bh(a.v), __m512bh(b.v))};
  }
  static void store(float* p, Pairs a) { _mm512_storeu_ps(p, a.v); }
};

constexpr int kRows = 12;  // of a whole panel: 24 sums of the 32 registers
constexpr int kSums = 24;

// Which 16-bit words of two registers interleave their lower or upper halves in squares of 64 bits;
// `order`: of the words in a square.
struct Interleave {
  alignas(64) uint16_t words[32];
  constexpr Interleave(int half, std::array<int, 4> order) : words() {
    for (int square = 0; square < 8; ++square)
      for (int word = 0; word < 4; ++word)
        words[4 * square + word] =
            uint16_t(square % 2 * 32 + (half * 4 + square / 2) * 4 + order[size_t(word)]);
  }
  __m512i of(__m512i a, __m512i b) const {
    return _mm512_permutex2var_epi16(a, _mm512_load_si512(words), b);
  }
};

// As turn_square, of squares of two inputs and two columns, which are turned, too.
void turn_pairs(const bf16* from, bf16* to) {
  static constexpr std::array<int, 4> kAsTheyAre{0, 1, 2, 3}, kTurned{0, 2, 1, 3};
  static constexpr Interleave kLow(0, kAsTheyAre), kHigh(1, kAsTheyAre),
      kLast[] = {{0, kTurned}, {1, kTurned}};
  constexpr int kSquares = kPanelWidth / 2, kEight = 8;  // 64 bits each, of a side; of a register
  const auto place = [](auto* tile, int r, int c) { return tile + (r * kSquares + c) * 4; };
  for (int r = 0; r < kSquares; r += kEight)
    for (int c = 0; c < kSquares; c += kEight) {
      __m512i row[kEight], next[kEight];
      for (int i = 0; i < kEight; ++i) row[i] = _mm512_loadu_si512(place(from, r + i, c));
      for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < kEight / 2; ++i) {
          next[2 * i] = (round < 2 ? kLow : kLast[0]).of(row[i], row[i + 4]);
          next[2 * i + 1] = (round < 2 ? kHigh : kLast[1]).of(row[i], row[i + 4]);
        }
        std::copy_n(next, kEight, row);
      }
      for (int i = 0; i < kEight; ++i) _mm512_storeu_si512(place(to, c + i, r), row[i]);
    }
}

}  // namespace

PanelKernel<bf16, bf16> pair_panel_kernel() {
  return panel_kernel_of<bf16, bf16>(kRows, multiply_rows<Pairs, kSums, kRows, bf16, bf16>,
                                     turn_pairs);
}

}  // namespace svfleet
