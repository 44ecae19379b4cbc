// What attention does with one page, written once for all instruction sets: products of a few
// queries with 32 keys or values. For inclusion in attention_<set>.cc alone, which compiles it with
// its own flags; hence the nameless namespace, and next to nothing of the standard library.
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

template <class W>
constexpr W kLog2E = W(1.4426950408889634);

SVFLEET_INLINE int padded(int dim) {
  return (dim + 31) / 32 * 32;
}

// What is kept of a tile's queries, each a row in one head, while pages go by. Their lines are
// padded to 32 numbers.
template <class W>
struct Queries {
  int width;        // padded(head_dim)
  W* q;             // [count, width]
  W* d_out;         // [count, width], in a gradient alone
  W* sum;           // [count, width]: of values in the order of pairs, or the gradient of q
  W* weights;       // [count, 32]: scores of a page's slots, then their p
  W* d_scores;      // [count, 32]: products d_out.v_j, then scale * dS; in a gradient alone
  W* total;         // [count, 16]: partial sums of p
  W* max;           // [count]: the largest score so far, or log_sum; in powers of two
  W* factor;        // [count]: what a new largest score multiplies the sums by; or D
  int* used;        // [count]: the slot of the page behind the last that each attends to
  int* unused;      // [count]: slots of the page before a query's window
  int* first_page;  // [count]: the first that each attends to; not in a gradient
};

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

// result[n][j] = sum over d of x[n][d] * matrix[d][j], j < 32, in the order of memory: even d and
// odd d on their own, then added.
template <class Lanes, int N, class T>
SVFLEET_INLINE void dots(const T* matrix, int dim, const typename Lanes::Number* x, int width,
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
      const Lanes factor = Lanes::all(x[n * width + d]);
      result[n][0] = Lanes::fma(factor, a, result[n][0]);
      result[n][1] = Lanes::fma(factor, b, result[n][1]);
    }
    Lanes::load_pair(matrix + (d + 1) * kPageTokens, a, b);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes factor = Lanes::all(x[n * width + d + 1]);
      odd[n][0] = Lanes::fma(factor, a, odd[n][0]);
      odd[n][1] = Lanes::fma(factor, b, odd[n][1]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    for (int i = 0; i < 2; ++i) result[n][i] = Lanes::add(result[n][i], odd[n][i]);
    if (sizeof(T) == 2) Lanes::interleave(result[n][0], result[n][1]);
  }
}

// sum[n][0..count-1] = sum * factor[n] + weights[n][j] * matrix[j][0..count-1] for j from `from` to
// `to`, one after the other; factor may be nullptr, for 1. Sums are pairs; count <= 32 * Pairs.
template <class Lanes, int N, int Pairs, bool Whole, class T, class W>
SVFLEET_INLINE void add_columns(const T* matrix, int stride, int count, int from, int to,
                                const W* weights, const W* factor, W* sum, int width) {
  Lanes total[N][2 * Pairs];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    const Lanes by = Lanes::all(factor ? factor[n] : W(1));
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Pairs; ++i)
      total[n][i] = Lanes::multiply(Lanes::load(sum + n * width + 16 * i), by);
  }
  for (int j = from; j < to; ++j) {
    Lanes row[2 * Pairs];
#pragma GCC unroll 8
    for (int i = 0; i < Pairs; ++i) {
      const T* const at = matrix + j * stride + 32 * i;
      if (Whole)
        Lanes::load_pair(at, row[2 * i], row[2 * i + 1]);
      else
        Lanes::load_pair(at, count - 32 * i, row[2 * i], row[2 * i + 1]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes weight = Lanes::all(weights[n * kPageTokens + j]);
#pragma GCC unroll 8
      for (int i = 0; i < 2 * Pairs; ++i) total[n][i] = Lanes::fma(weight, row[i], total[n][i]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Pairs; ++i) Lanes::store(sum + n * width + 16 * i, total[n][i]);
}

// The same over whole rows of `dim` numbers.
template <class Lanes, int N, class T, class W>
void add_rows(const T* matrix, int dim, int from, int to, const W* weights, const W* factor, W* sum,
              int width) {
  int d = 0;
  for (; dim - d >= 64; d += 64)
    add_columns<Lanes, N, 2, true>(matrix + d, dim, 64, from, to, weights, factor, sum + d, width);
  for (; dim - d >= 32; d += 32)
    add_columns<Lanes, N, 1, true>(matrix + d, dim, 32, from, to, weights, factor, sum + d, width);
  if (d < dim)
    add_columns<Lanes, N, 1, false>(matrix + d, dim, dim - d, from, to, weights, factor, sum + d,
                                    width);
}

// The same for N queries of a tile, each over what it attends to.
template <class Lanes, int N, class T, class W>
SVFLEET_INLINE void add_used_rows(const T* matrix, int dim, const Queries<W>& queries, int first,
                                  const W* weights, const W* factor) {
  const int width = queries.width;
  const int *const used = queries.used + first, *const unused = queries.unused + first;
  int shared = used[0], begun = unused[0];
  for (int n = 1; n < N; ++n) {
    shared = used[n] < shared ? used[n] : shared;
    begun = unused[n] > begun ? unused[n] : begun;
  }
  W* const sum = queries.sum + int64_t(first) * width;
  weights += int64_t(first) * kPageTokens;
  if (begun > 0) {  // a window begins in this page: each alone
    for (int n = 0; n < N; ++n)
      add_rows<Lanes, 1, T, W>(matrix, dim, unused[n], used[n], weights + n * kPageTokens,
                               factor ? factor + first + n : nullptr, sum + n * width, width);
    return;
  }
  add_rows<Lanes, N>(matrix, dim, 0, shared, weights, factor ? factor + first : nullptr, sum,
                     width);
  for (int n = 0; n < N; ++n)
    if (used[n] > shared)
      add_rows<Lanes, 1, T, W>(matrix, dim, shared, used[n], weights + n * kPageTokens, nullptr,
                               sum + n * width, width);
}

// Widens [count] numbers into the order that they have in memory; zeros up to the next 32.
template <class Lanes, class T>
void widen_row(const T* from, int count, typename Lanes::Number* to) {
  for (int d = 0; d < count; d += 32) {
    Lanes a, b;
    Lanes::load_pair(from + d, count - d < 32 ? count - d : 32, a, b);
    if (sizeof(T) == 2) Lanes::interleave(a, b);
    Lanes::store(to + d, a);
    Lanes::store(to + d + 16, b);
  }
}

// Calls each<N>(i) for pieces of N <= Lanes::kQueries queries from `first` to `end`.
template <class Lanes, int N = Lanes::kQueries, class Each>
SVFLEET_INLINE void in_pieces(int first, int end, const Each& each) {
  for (; end - first >= N; first += N) each.template operator()<N>(first);
  if constexpr (N > 1) {
    if (first < end) in_pieces<Lanes, N - 1>(first, end, each);
  }
}

// The first key that a row of so many keys sees.
SVFLEET_INLINE int64_t first_key(const AttentionShape& shape, int64_t keys) {
  return shape.window > 0 && keys > shape.window ? keys - shape.window : 0;
}

// Calls each(row, end) for consecutive rows that have the same page at this place.
template <class AnyTile, class Each>
SVFLEET_INLINE void for_each_run(const AnyTile& tile, int64_t page, const Each& each) {
  const auto attends = [&](int row) {
    const int64_t keys = tile.rows[row].keys;
    return keys > page * kPageTokens && first_key(*tile.shape, keys) < (page + 1) * kPageTokens;
  };
  for (int first = 0, end; first < tile.count; first = end) {
    end = first + 1;
    if (!attends(first)) continue;
    while (end < tile.count && attends(end) &&
           tile.rows[end].pages[page] == tile.rows[first].pages[page])
      ++end;
    each(first, end);
  }
}

// The first page that a row of the tile sees.
template <class AnyTile>
SVFLEET_INLINE int64_t first_page(const AnyTile& tile) {
  int64_t first = first_key(*tile.shape, tile.rows[0].keys);
  for (int i = 1; i < tile.count; ++i) {
    const int64_t own = first_key(*tile.shape, tile.rows[i].keys);
    first = own < first ? own : first;
  }
  return first / kPageTokens;
}

template <class AnyTile>
SVFLEET_INLINE int64_t most_pages(const AnyTile& tile) {
  int64_t keys = 0;
  for (int i = 0; i < tile.count; ++i) keys = tile.rows[i].keys > keys ? tile.rows[i].keys : keys;
  return (keys + kPageTokens - 1) / kPageTokens;
}

// Sets what each query attends to of a page.
template <class AnyTile, class W>
SVFLEET_INLINE void count_used(const AnyTile& tile, int group, int64_t page,
                               const Queries<W>& queries) {
  const auto within = [](int64_t slots) {
    return slots < 0 ? 0 : slots < kPageTokens ? int(slots) : kPageTokens;
  };
  for (int row = 0; row < tile.count; ++row) {
    const int64_t keys = tile.rows[row].keys;
    const int before = within(first_key(*tile.shape, keys) - page * kPageTokens);
    const int used = before < kPageTokens ? within(keys - page * kPageTokens) : 0;
    for (int g = 0; g < group; ++g) {
      queries.unused[row * group + g] = before;
      queries.used[row * group + g] = used;
    }
  }
}

// Of 16 slots from `slot` on: those that query n attends to, `other` in the place of the rest.
template <class Lanes, class W>
SVFLEET_INLINE Lanes keep_used(const Queries<W>& queries, int n, int slot, Lanes x, Lanes other) {
  x = Lanes::keep(x, queries.used[n] - slot, other);
  return queries.unused[n] > slot ? Lanes::keep(other, queries.unused[n] - slot, x) : x;
}

// tanh, of any number; its absolute error is below 2e-7.
template <class Lanes>
SVFLEET_INLINE Lanes tanh_of(Lanes x) {
  using W = typename Lanes::Number;
  const Lanes zero = Lanes::all(0), one = Lanes::all(1), most = Lanes::all(-W(20));
  // Within +-20, where it is +-1 already. A NaN passes through, as in exp2.
  x = Lanes::largest(most, x);
  x = Lanes::subtract(zero, Lanes::largest(most, Lanes::subtract(zero, x)));
  const Lanes power = exp2(Lanes::multiply(x, Lanes::all(2 * kLog2E<W>)));
  return Lanes::subtract(one, Lanes::divide(Lanes::all(2), Lanes::add(power, one)));
}

// Lays out the queries in the scratch and returns what is left of it.
template <class W>
W* lay_out(Queries<W>& queries, int count, int dim, bool gradient, W* scratch) {
  const auto take = [&](int64_t numbers) { return (scratch += numbers) - numbers; };
  const int width = queries.width = padded(dim);
  const int64_t few = (count + 15) / 16 * 16;
  queries.q = take(int64_t(count) * width);
  queries.sum = take(int64_t(count) * width);
  queries.weights = take(int64_t(count) * kPageTokens);
  if (gradient) {
    queries.d_out = take(int64_t(count) * width);
    queries.d_scores = take(int64_t(count) * kPageTokens);
  } else {
    queries.total = take(int64_t(count) * 16);
  }
  queries.max = take(few);
  queries.factor = take(few);
  queries.used = reinterpret_cast<int*>(take(few));
  queries.unused = reinterpret_cast<int*>(take(few));
  queries.first_page = reinterpret_cast<int*>(take(few));
  return scratch;
}

}  // namespace
}  // namespace svfleet
