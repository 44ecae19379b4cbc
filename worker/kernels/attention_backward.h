// attend_gradient for one tile, written once for all instruction sets; see attention_block.h.
#pragma once

#include "worker/kernels/attention_block.h"

namespace svfleet {
namespace {

// A page's keys and values of one head, turned and widened once for all queries.
template <class W>
struct TurnedPage {
  W* keys;    // [32][padded(head_dim)]
  W* values;  // [head_dim][32]
};

template <class Lanes, class T>
void turn_page(const T* keys, int dim, const TurnedPage<Wide<T>>& turned) {
  const T* const values = keys + int64_t(dim) * kPageTokens;
  const int width = padded(dim);
  for (int d = 0; d < dim; d += 16) {
    const int count = dim - d < 16 ? dim - d : 16;
    for (int j = 0; j < kPageTokens; j += 16) {
      Lanes::turn(keys + int64_t(d) * kPageTokens + j, kPageTokens, count, 16,
                  turned.keys + j * width + d, width);
      Lanes::turn(values + int64_t(j) * dim + d, dim, 16, count,
                  turned.values + int64_t(d) * kPageTokens + j, kPageTokens);
    }
  }
}

// N queries' scores of one page's slots, and the products d_out.v_j.
template <class Lanes, int N, class T>
SVFLEET_INLINE void take_products(const T* keys, const Wide<T>* turned_values, int dim,
                                  const Queries<Wide<T>>& queries, int first) {
  const int width = queries.width;
  Lanes result[N][2];
  const auto keep = [&](Wide<T>* to) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < 2; ++i)
        Lanes::store(to + (first + n) * kPageTokens + 16 * i, result[n][i]);
  };
  dots<Lanes, N>(keys, dim, queries.q + int64_t(first) * width, width, result);
  keep(queries.weights);
  dots<Lanes, N>(turned_values, dim, queries.d_out + int64_t(first) * width, width, result);
  keep(queries.d_scores);
}

// From these to p and scale * dS.
template <class Lanes, class W>
SVFLEET_INLINE void take_gradients(const Queries<W>& queries, int first, int end,
                                   const AttentionShape& shape) {
  const bool capped = shape.soft_cap > 0;
  const Lanes to_powers = Lanes::all(W(shape.scale * kLog2E<double>)), zero = Lanes::all(0);
  const Lanes to_cap = Lanes::all(W(capped ? shape.scale / shape.soft_cap : 0)),
              cap = Lanes::all(W(shape.soft_cap * kLog2E<double>));
  for (int n = first; n < end; ++n)
    for (int i = 0; i < 2; ++i) {
      W* const weights = queries.weights + n * kPageTokens + 16 * i;
      W* const d_scores = queries.d_scores + n * kPageTokens + 16 * i;
      const Lanes product = Lanes::load(weights);
      const Lanes t = capped ? tanh_of(Lanes::multiply(product, to_cap)) : zero;
      const Lanes x = capped ? Lanes::multiply(t, cap) : Lanes::multiply(product, to_powers);
      const Lanes p = exp2(Lanes::subtract(x, Lanes::all(queries.max[n])));
      const Lanes d_p = Lanes::subtract(Lanes::load(d_scores), Lanes::all(queries.factor[n]));
      Lanes d_score = Lanes::multiply(Lanes::multiply(p, d_p), Lanes::all(W(shape.scale)));
      if (capped)
        d_score = Lanes::multiply(d_score, Lanes::subtract(Lanes::all(1), Lanes::multiply(t, t)));
      Lanes::store(weights, keep_used(queries, n, 16 * i, p, zero));
      Lanes::store(d_scores, keep_used(queries, n, 16 * i, d_score, zero));
    }
}

// to[r][c] += a[n][r] * b[n][c] for Rows rows and columns c < count <= 32 * Pairs; queries n from
// `first` to `end`, one after the other.
template <class Lanes, int Rows, int Pairs, bool Whole, class W>
SVFLEET_INLINE void add_outer(const W* a, int a_stride, const W* b, int b_stride, int first,
                              int end, int count, W* to, int to_stride) {
  Lanes sum[Rows][2 * Pairs];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int i = 0; i < Pairs; ++i) {
      if (Whole)
        Lanes::load_pair(to + r * to_stride + 32 * i, sum[r][2 * i], sum[r][2 * i + 1]);
      else
        Lanes::load_pair(to + r * to_stride + 32 * i, count - 32 * i, sum[r][2 * i],
                         sum[r][2 * i + 1]);
    }
  for (int n = first; n < end; ++n) {
    Lanes line[2 * Pairs];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Pairs; ++i) line[i] = Lanes::load(b + int64_t(n) * b_stride + 16 * i);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Lanes factor = Lanes::all(a[int64_t(n) * a_stride + r]);
#pragma GCC unroll 8
      for (int i = 0; i < 2 * Pairs; ++i) sum[r][i] = Lanes::fma(factor, line[i], sum[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int i = 0; i < Pairs; ++i)
      Lanes::store_pair(to + r * to_stride + 32 * i,
                        Whole || count - 32 * i > 32 ? 32 : count - 32 * i, sum[r][2 * i],
                        sum[r][2 * i + 1]);
}

// d_keys[d][j] += sum over queries of q[d] * d_scores[j].
template <class Lanes, class W>
SVFLEET_INLINE void add_to_keys(const Queries<W>& queries, int first, int end, int dim, W* d_keys) {
  constexpr int kRows = Lanes::kRows;
  int d = 0;
  for (; dim - d >= kRows; d += kRows)
    add_outer<Lanes, kRows, 1, true>(queries.q + d, queries.width, queries.d_scores, kPageTokens,
                                     first, end, 32, d_keys + d * kPageTokens, kPageTokens);
  for (; d < dim; ++d)
    add_outer<Lanes, 1, 1, true>(queries.q + d, queries.width, queries.d_scores, kPageTokens, first,
                                 end, 32, d_keys + d * kPageTokens, kPageTokens);
}

// d_values[j][d] += sum over queries of p[j] * d_out[d].
template <class Lanes, class W>
SVFLEET_INLINE void add_to_values(const Queries<W>& queries, int first, int end, int dim,
                                  W* d_values) {
  constexpr int kRows = Lanes::kRows;
  static_assert(kPageTokens % kRows == 0);
  for (int j = 0; j < kPageTokens; j += kRows) {
    const W* const weights = queries.weights + j;
    W* const to = d_values + j * dim;
    int d = 0;
    for (; dim - d >= 32; d += 32)
      add_outer<Lanes, kRows, 1, true>(weights, kPageTokens, queries.d_out + d, queries.width,
                                       first, end, 32, to + d, dim);
    if (d < dim)
      add_outer<Lanes, kRows, 1, false>(weights, kPageTokens, queries.d_out + d, queries.width,
                                        first, end, dim - d, to + d, dim);
  }
}

// Widens a query, and takes its log_sum and D.
template <class Lanes, class T>
void start_query(const AttentionGradientRow<T>& row, int head, int dim,
                 const Queries<Wide<T>>& queries, int n) {
  using W = Wide<T>;
  const int64_t from = int64_t(head) * dim, to = int64_t(n) * queries.width;
  widen_row<Lanes>(row.q + from, dim, queries.q + to);
  widen_row<Lanes>(row.out + from, dim, queries.sum + to);
  widen_row<Lanes>(row.d_out + from, dim, queries.d_out + to);
  Lanes total = Lanes::all(0);
  for (int d = 0; d < queries.width; d += 16) {
    total =
        Lanes::fma(Lanes::load(queries.d_out + to + d), Lanes::load(queries.sum + to + d), total);
    Lanes::store(queries.sum + to + d, Lanes::all(0));
  }
  queries.max[n] = W(double(row.log_sum[head]) * kLog2E<double>);
  queries.factor[n] = Lanes::sum_of(total);
}

template <class Lanes, class T>
void attend_gradient_tile(const AttentionGradientTile<T>& tile) {
  using W = Wide<T>;
  const AttentionShape& shape = *tile.shape;
  const int group = shape.heads / shape.kv_heads, dim = shape.head_dim;
  const int count = tile.count * group, head = tile.kv_head * group;
  Queries<W> queries;
  W* const rest = lay_out(queries, count, dim, true, tile.scratch);
  const int width = queries.width;
  const TurnedPage<W> turned{rest, rest + kPageTokens * width};
  for (int i = 0; i < kPageTokens * width; ++i) turned.keys[i] = 0;
  for (int i = 0; i < count; ++i)
    start_query<Lanes>(tile.rows[i / group], head + i % group, dim, queries, i);

  const int64_t keys_at = int64_t(tile.kv_head) * 2 * dim * kPageTokens;
  const int64_t pages = most_pages(tile);
  for (int64_t page = first_page(tile); page < pages; ++page) {
    count_used(tile, group, page, queries);
    if (tile.order) wait_for_page(*tile.order, tile.index, page);
    for_each_run(tile, page, [&](int first_row, int end_row) {
      const int first = first_row * group, end = end_row * group;
      const T* const keys = tile.rows[first_row].pages[page] + keys_at;
      W* const d_keys = tile.rows[first_row].d_pages[page] + keys_at;
      turn_page<Lanes>(keys, dim, turned);
      in_pieces<Lanes>(first, end, [&]<int N>(int i) {
        take_products<Lanes, N>(keys, turned.values, dim, queries, i);
      });
      take_gradients<Lanes>(queries, first, end, shape);
      in_pieces<Lanes>(first, end, [&]<int N>(int i) {
        add_used_rows<Lanes, N, W, W>(turned.keys, width, queries, i, queries.d_scores, nullptr);
      });
      add_to_keys<Lanes>(queries, first, end, dim, d_keys);
      add_to_values<Lanes>(queries, first, end, dim, d_keys + int64_t(dim) * kPageTokens);
    });
    if (tile.order) leave_page(*tile.order, tile.index, page);
  }
  for (int i = 0; i < count; ++i) {
    W* const d_q = tile.rows[i / group].d_q + int64_t(head + i % group) * dim;
    const W* const sum = queries.sum + int64_t(i) * width;
    for (int d = 0; d < dim; d += 32)
      Lanes::store_pair(d_q + d, dim - d < 32 ? dim - d : 32, Lanes::load(sum + d),
                        Lanes::load(sum + d + 16));
  }
}

}  // namespace
}  // namespace svfleet
