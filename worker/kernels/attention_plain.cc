// attention_tile.h in plain C++.
#include <cmath>
#include <cstring>

#include "worker/kernels/attention_backward.h"
#include "worker/kernels/attention_forward.h"

namespace svfleet {
namespace {

// What the operations of Lanes mean.
template <class W>
struct PlainLanes {
  using Number = W;
  static constexpr int kQueries = 1;
  static constexpr int kRows = 1;
  W x[16];

  template <class F>
  static PlainLanes each(F f) {
    PlainLanes result;
    for (int i = 0; i < 16; ++i) result.x[i] = f(i);
    return result;
  }
  static PlainLanes all(W x) {
    return each([&](int) { return x; });
  }
  static PlainLanes load(const W* p) {
    return each([&](int i) { return p[i]; });
  }
  static void store(W* p, const PlainLanes& a) { std::memcpy(p, a.x, sizeof a.x); }
  static PlainLanes add(const PlainLanes& a, const PlainLanes& b) {
    return each([&](int i) { return a.x[i] + b.x[i]; });
  }
  static PlainLanes subtract(const PlainLanes& a, const PlainLanes& b) {
    return each([&](int i) { return a.x[i] - b.x[i]; });
  }
  static PlainLanes multiply(const PlainLanes& a, const PlainLanes& b) {
    return each([&](int i) { return a.x[i] * b.x[i]; });
  }
  static PlainLanes divide(const PlainLanes& a, const PlainLanes& b) {
    return each([&](int i) { return a.x[i] / b.x[i]; });
  }
  static PlainLanes fma(const PlainLanes& a, const PlainLanes& b, const PlainLanes& c) {
    return each([&](int i) { return std::fma(a.x[i], b.x[i], c.x[i]); });
  }
  // b where they do not compare, as the instruction has it.
  static PlainLanes largest(const PlainLanes& a, const PlainLanes& b) {
    return each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
  }
  static PlainLanes where_less(const PlainLanes& a, const PlainLanes& b, const PlainLanes& yes,
                               const PlainLanes& no) {
    return each([&](int i) { return a.x[i] < b.x[i] ? yes.x[i] : no.x[i]; });
  }
  // The first `count` of them; count may be negative or above 16.
  static PlainLanes keep(const PlainLanes& a, int count, const PlainLanes& other) {
    return each([&](int i) { return i < count ? a.x[i] : other.x[i]; });
  }
  // 2^n, where n stands in the lowest bits of shifted.
  static PlainLanes power(const PlainLanes& shifted) {
    return each([&](int i) {
      return std::bit_cast<float>((std::bit_cast<uint32_t>(shifted.x[i]) << 23) + 0x3f800000u);
    });
  }
  static PlainLanes exp2_slow(const PlainLanes& a) {
    return each([&](int i) { return a.x[i] < -1000 ? a.x[i] * 0 : std::exp2(a.x[i]); });
  }
  // Lane i with lane i + 8, then i + 4, i + 2, i + 1.
  static W max_of(PlainLanes a) {
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a.x[i] = a.x[i] > a.x[i + half] ? a.x[i] : a.x[i + half];
    return a.x[0];
  }
  static W sum_of(PlainLanes a) {
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a.x[i] += a.x[i + half];
    return a.x[0];
  }

  // The first `count` of 32 numbers, then zeros; of bf16 the even ones into a, the odd ones into b.
  // count is even.
  static void load_pair(const bf16* p, int count, PlainLanes& a, PlainLanes& b) {
    a = each([&](int i) { return 2 * i < count ? W(widen(p[2 * i])) : W(0); });
    b = each([&](int i) { return 2 * i < count ? W(widen(p[2 * i + 1])) : W(0); });
  }
  static void load_pair(const W* p, int count, PlainLanes& a, PlainLanes& b) {
    a = each([&](int i) { return i < count ? p[i] : W(0); });
    b = each([&](int i) { return i + 16 < count ? p[i + 16] : W(0); });
  }
  template <class T>
  static void load_pair(const T* p, PlainLanes& a, PlainLanes& b) {
    load_pair(p, 32, a, b);
  }
  static void store_pair(bf16* p, int count, const PlainLanes& a, const PlainLanes& b) {
    for (int i = 0; i < count; ++i) p[i] = to_bf16(float((i % 2 ? b : a).x[i / 2]));
  }
  static void store_pair(W* p, int count, const PlainLanes& a, const PlainLanes& b) {
    for (int i = 0; i < count; ++i) p[i] = i < 16 ? a.x[i] : b.x[i - 16];
  }
  // From even and odd ones to the order of memory.
  static void interleave(PlainLanes& a, PlainLanes& b) {
    W x[32];
    for (int i = 0; i < 32; ++i) x[i] = i % 2 ? b.x[i / 2] : a.x[i / 2];
    a = load(x);
    b = load(x + 16);
  }
  // to[j][i] = from[i][j] for i < rows, j < columns, both <= 16.
  template <class T>
  static void turn(const T* from, int64_t from_stride, int rows, int columns, W* to,
                   int64_t to_stride) {
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) to[j * to_stride + i] = widen(from[i * from_stride + j]);
  }
};

}  // namespace

template <class T>
void attend_plain(const AttentionTile<T>& tile) {
  attend_tile<PlainLanes<Wide<T>>>(tile);
}
template <class T>
void attend_gradient_plain(const AttentionGradientTile<T>& tile) {
  attend_gradient_tile<PlainLanes<Wide<T>>>(tile);
}
template void attend_plain(const AttentionTile<bf16>&);
template void attend_plain(const AttentionTile<float>&);
template void attend_plain(const AttentionTile<double>&);
template void attend_gradient_plain(const AttentionGradientTile<bf16>&);
template void attend_gradient_plain(const AttentionGradientTile<float>&);
template void attend_gradient_plain(const AttentionGradientTile<double>&);

int64_t scratch_elements(const AttentionShape& shape, int rows) {
  const int width = padded(shape.head_dim);
  const int64_t queries = int64_t(rows) * (shape.heads / shape.kv_heads);
  return queries * (3 * width + 2 * kPageTokens + 16) + 5 * (queries + 16) +
         2 * kPageTokens * width;
}

}  // namespace svfleet
