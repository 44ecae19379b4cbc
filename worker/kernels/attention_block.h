// What attention does with one page, written once for all instruction sets: products of a few
// queries with 32 keys or values. For inclusion in attention_<set>.cc alone, which compiles it with
// its own flags; hence the nameless namespace, and nothing of the standard library.
//
// Lanes is 16 numbers, with the operations of PlainLanes in attention_plain.cc. A pair of them is
// 32 numbers of memory in an order that is quick to load (of bf16: the even ones, then the odd
// ones). Each number is added up in an order that depends neither on the set nor on how many
// queries are taken at once: that is where equal bits come from.
#pragma once

#include "worker/kernels/attention_tile.h"

namespace svfleet {
namespace {

#define SVFLEET_INLINE [[gnu::always_inline]] inline

// What is kept of one query, a row in one head, while pages go by. All padded to 32 numbers.
template <class W>
struct Query {
  const W* q;      // [head_dim]
  W* sum;          // [head_dim], in the order of pairs: values, or gradient of q
  W* weights;      // [32], p of the page's slots
  W* d_scores;     // [32], scale * dS of the page's slots
  W* total;        // [16], partial sums of p
  const W* d_out;  // [head_dim]
  W max;           // the largest score so far, in powers of two
  W offset;        // log_sum in powers of two
  W d_out_out;     // D
  int used;        // slots of the page that it attends to
  bool started;    // whether there was a page
};

// What an array of queries takes of the scratch.
template <class W>
constexpr int64_t query_elements(int count) {
  return (int64_t(count) * sizeof(Query<W>) / sizeof(W) + 15) / 16 * 16;
}

template <class W>
constexpr W kLog2E = W(1.4426950408889634);

// 2^x for x <= 127, with 0 for x < -126; not finite where x is not. Relative error < 3e-7.
template <class Lanes>
SVFLEET_INLINE Lanes exp2(Lanes x) {
  if constexpr (sizeof(typename Lanes::Number) == 8) {
    return Lanes::exp2_slow(x);
  } else {
    // Rounding by the magic number leaves the integer in the lowest bits of the sum. A NaN passes
    // through largest(bound, x), which gives x where they do not compare.
    const Lanes bound = Lanes::all(-126.0f), magic = Lanes::all(12582912.0f);
    const Lanes clamped = Lanes::largest(bound, x);
    const Lanes shifted = Lanes::add(clamped, magic);
    const Lanes f = Lanes::subtract(clamped, Lanes::subtract(shifted, magic));
    // Chebyshev interpolation of (2^f - 1) / f on [-1/2, 1/2]; the constant 1 makes 2^0 exact.
    Lanes y = Lanes::all(0x1.5ec866b5d25b3p-10f);
    y = Lanes::fma(y, f, Lanes::all(0x1.3cbf6052843d7p-7f));
    y = Lanes::fma(y, f, Lanes::all(0x1.c6afed2b12099p-5f));
    y = Lanes::fma(y, f, Lanes::all(0x1.ebfa4b174fc30p-3f));
    y = Lanes::fma(y, f, Lanes::all(0x1.62e42fefa39efp-1f));
    y = Lanes::fma(y, f, Lanes::all(1.0f));
    y = Lanes::multiply(y, Lanes::power(shifted));
    return Lanes::where_less(x, bound, Lanes::multiply(x, Lanes::all(0.0f)), y);
  }
}

// result[n] = sum over d of x[n][d] * matrix[d][0..31], as a pair: even d and odd d on their own,
// then added.
template <class Lanes, int N, class T>
SVFLEET_INLINE void dots(const T* matrix, int dim, const typename Lanes::Number* const (&x)[N],
                         Lanes (&result)[N][2]) {
  Lanes odd[N][2];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < 2; ++i) result[n][i] = odd[n][i] = Lanes::all(0);
  for (int d = 0; d < dim; d += 2) {
    Lanes a, b;
    Lanes::load_pair(matrix + d * kPageTokens, a, b);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes factor = Lanes::all(x[n][d]);
      result[n][0] = Lanes::fma(factor, a, result[n][0]);
      result[n][1] = Lanes::fma(factor, b, result[n][1]);
    }
    Lanes::load_pair(matrix + (d + 1) * kPageTokens, a, b);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes factor = Lanes::all(x[n][d + 1]);
      odd[n][0] = Lanes::fma(factor, a, odd[n][0]);
      odd[n][1] = Lanes::fma(factor, b, odd[n][1]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < 2; ++i) result[n][i] = Lanes::add(result[n][i], odd[n][i]);
}

// sum[n][0..count-1] += weight[n][at(j)] * matrix[j][0..count-1] for j from `from` to `to`, one
// after the other; sums are pairs, of count <= 32 * Pairs.
template <class Lanes, int N, int Pairs, class T, class Place>
SVFLEET_INLINE void add_weighted(const T* matrix, int64_t stride, int count, int from, int to,
                                 Place place, const typename Lanes::Number* const (&weight)[N],
                                 typename Lanes::Number* const (&sum)[N]) {
  Lanes total[N][2 * Pairs];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Pairs; ++i) total[n][i] = Lanes::load(sum[n] + 16 * i);
  for (int j = from; j < to; ++j) {
    Lanes row[2 * Pairs];
#pragma GCC unroll 8
    for (int i = 0; i < Pairs; ++i) {
      const T* at = matrix + j * stride + 32 * i;
      if (count == 32 * Pairs)
        Lanes::load_pair(at, row[2 * i], row[2 * i + 1]);
      else
        Lanes::load_pair(at, count - 32 * i, row[2 * i], row[2 * i + 1]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes factor = Lanes::all(weight[n][place(j)]);
#pragma GCC unroll 8
      for (int i = 0; i < 2 * Pairs; ++i) total[n][i] = Lanes::fma(factor, row[i], total[n][i]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Pairs; ++i) Lanes::store(sum[n] + 16 * i, total[n][i]);
}

// The same over whole rows of `dim` numbers.
template <class Lanes, int N, class T, class Place>
void add_weighted_rows(const T* matrix, int64_t stride, int dim, int from, int to, Place place,
                       const typename Lanes::Number* const (&weight)[N],
                       typename Lanes::Number* const (&sum)[N]) {
  for (int d = 0; d < dim;) {
    typename Lanes::Number* at[N];
    for (int n = 0; n < N; ++n) at[n] = sum[n] + d;
    if (dim - d >= 64) {
      add_weighted<Lanes, N, 2>(matrix + d, stride, 64, from, to, place, weight, at);
      d += 64;
    } else if (dim - d >= 32) {
      add_weighted<Lanes, N, 1>(matrix + d, stride, 32, from, to, place, weight, at);
      d += 32;
    } else {
      add_weighted<Lanes, N, 1>(matrix + d, stride, dim - d, from, to, place, weight, at);
      d = dim;
    }
  }
}

// Lanes of a pair of which only the first `used` of 32 numbers count become `other`.
template <class Lanes, class T>
SVFLEET_INLINE void keep_used(Lanes (&x)[2], int used, typename Lanes::Number other) {
  const bool split = sizeof(T) == 2;
  const int first = split ? (used + 1) / 2 : used;
  const int second = split ? used / 2 : used - 16;
  x[0] = Lanes::keep(x[0], first, Lanes::all(other));
  x[1] = Lanes::keep(x[1], second, Lanes::all(other));
}

// Where slot j stands in a pair loaded from T.
template <class T>
struct PlaceInPair {
  SVFLEET_INLINE int operator()(int j) const { return sizeof(T) == 2 ? (j & 1) * 16 + j / 2 : j; }
};
struct SamePlace {
  SVFLEET_INLINE int operator()(int j) const { return j; }
};

// Calls each<M>(first) for pieces of M <= Lanes::kQueries queries among first .. count-1.
template <class Lanes, int N = Lanes::kQueries, class Each>
SVFLEET_INLINE void in_pieces(int first, int count, const Each& each) {
  for (; count - first >= N; first += N) each.template operator()<N>(first);
  if constexpr (N > 1) {
    if (first < count) in_pieces<Lanes, N - 1>(first, count, each);
  }
}

// Widens [count] numbers into the order that they have in memory; zeros up to the next 32.
template <class Lanes, class T>
void widen_row(const T* from, int count, typename Lanes::Number* to) {
  for (int d = 0; d < count; d += 32) {
    Lanes pair[2];
    if (count - d >= 32)
      Lanes::load_pair(from + d, pair[0], pair[1]);
    else
      Lanes::load_pair(from + d, count - d, pair[0], pair[1]);
    if (sizeof(T) == 2) Lanes::interleave(pair[0], pair[1]);
    Lanes::store(to + d, pair[0]);
    Lanes::store(to + d + 16, pair[1]);
  }
}

// Slots of this page among the first `keys` tokens.
SVFLEET_INLINE int used_slots(int64_t keys, int64_t page) {
  const int64_t left = keys - page * kPageTokens;
  return left < 0 ? 0 : left < kPageTokens ? int(left) : kPageTokens;
}

// Calls each(first, end) for consecutive rows that have the same page at this place.
template <class AnyTile, class Each>
SVFLEET_INLINE void for_each_run(const AnyTile& tile, int64_t page, const Each& each) {
  const auto attends = [&](int row) { return tile.rows[row].keys > page * kPageTokens; };
  for (int first = 0, end; first < tile.count; first = end) {
    end = first + 1;
    if (!attends(first)) continue;
    while (end < tile.count && attends(end) &&
           tile.rows[end].pages[page] == tile.rows[first].pages[page])
      ++end;
    each(first, end);
  }
}

SVFLEET_INLINE int padded(int dim) {
  return (dim + 31) / 32 * 32;
}

}  // namespace
}  // namespace svfleet
