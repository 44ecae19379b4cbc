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

// p and scale * dS of one query's scores s and products d_out.v_j, both in the order of slots.
template <class Lanes, class W>
SVFLEET_INLINE void take_gradient(const Query<W>& query, const Lanes (&score)[2],
                                  const Lanes (&d_p)[2], double scale) {
  const Lanes to_powers = Lanes::all(W(scale * kLog2E<double>));
  for (int i = 0; i < 2; ++i) {
    const Lanes x = Lanes::multiply(score[i], to_powers);
    const Lanes p = exp2(Lanes::subtract(x, Lanes::all(query.offset)));
    const Lanes d_score = Lanes::multiply(p, Lanes::subtract(d_p[i], Lanes::all(query.d_out_out)));
    const int used = query.used - 16 * i;
    const Lanes zero = Lanes::all(0);
    Lanes::store(query.weights + 16 * i, Lanes::keep(p, used, zero));
    Lanes::store(query.d_scores + 16 * i,
                 Lanes::keep(Lanes::multiply(d_score, Lanes::all(W(scale))), used, zero));
  }
}

// d_keys[d][j] += sum over queries of q[d] * d_scores[j]; the queries one after the other.
template <class Lanes, int N, class W>
SVFLEET_INLINE void add_to_keys(const Query<W>* queries, int dim, W* d_keys) {
  Lanes d_score[N][2];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < 2; ++i) d_score[n][i] = Lanes::load(queries[n].d_scores + 16 * i);
  for (int d = 0; d < dim; ++d) {
    W* const at = d_keys + int64_t(d) * kPageTokens;
    Lanes a = Lanes::load(at), b = Lanes::load(at + 16);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Lanes factor = Lanes::all(queries[n].q[d]);
      a = Lanes::fma(factor, d_score[n][0], a);
      b = Lanes::fma(factor, d_score[n][1], b);
    }
    Lanes::store(at, a);
    Lanes::store(at + 16, b);
  }
}

// d_values[j][d] += sum over queries of p[j] * d_out[d], for j from `from` to `to`.
template <class Lanes, int N, class W>
SVFLEET_INLINE void add_to_values(const Query<W>* queries, int dim, int from, int to, W* d_values) {
  for (int d = 0; d < dim; d += 32) {
    Lanes d_out[N][2];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < 2; ++i) d_out[n][i] = Lanes::load(queries[n].d_out + d + 16 * i);
    const int count = dim - d < 32 ? dim - d : 32;
    for (int j = from; j < to; ++j) {
      W* const at = d_values + int64_t(j) * dim + d;
      Lanes a, b;
      Lanes::load_pair(at, count, a, b);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const Lanes factor = Lanes::all(queries[n].weights[j]);
        a = Lanes::fma(factor, d_out[n][0], a);
        b = Lanes::fma(factor, d_out[n][1], b);
      }
      Lanes::store_pair(at, count, a, b);
    }
  }
}

// N queries, all of which attend to at least one slot of the page.
template <class Lanes, int N, class T>
void gradient_page(const AttentionShape& shape, const T* keys, const TurnedPage<Wide<T>>& turned,
                   Query<Wide<T>>* queries, Wide<T>* d_keys) {
  using W = Wide<T>;
  const int dim = shape.head_dim, width = padded(dim);
  const W *q[N], *d_out[N], *d_scores[N];
  W* sums[N];
  int shared = kPageTokens;
  for (int n = 0; n < N; ++n) {
    q[n] = queries[n].q;
    d_out[n] = queries[n].d_out;
    d_scores[n] = queries[n].d_scores;
    sums[n] = queries[n].sum;
    if (queries[n].used < shared) shared = queries[n].used;
  }
  Lanes scores[N][2], d_p[N][2];
  dots<Lanes, N>(keys, dim, q, scores);
  dots<Lanes, N>(turned.values, dim, d_out, d_p);
  for (int n = 0; n < N; ++n) {
    if (sizeof(T) == 2) Lanes::interleave(scores[n][0], scores[n][1]);
    take_gradient(queries[n], scores[n], d_p[n], shape.scale);
  }
  W* const d_values = d_keys + int64_t(dim) * kPageTokens;
  add_weighted_rows<Lanes, N>(turned.keys, width, width, 0, shared, SamePlace(), d_scores, sums);
  add_to_values<Lanes, N>(queries, dim, 0, shared, d_values);
  for (int n = 0; n < N; ++n) {
    if (queries[n].used == shared) continue;
    add_weighted_rows<Lanes, 1>(turned.keys, width, width, shared, queries[n].used, SamePlace(),
                                {d_scores[n]}, {sums[n]});
    add_to_values<Lanes, 1>(queries + n, dim, shared, queries[n].used, d_values);
  }
  add_to_keys<Lanes, N>(queries, dim, d_keys);
}

template <class Lanes, class T>
void start_query(const AttentionGradientRow<T>& row, int head, int dim, Query<Wide<T>>& query,
                 Wide<T>* q, Wide<T>* d_out) {
  using W = Wide<T>;
  const int64_t at = int64_t(head) * dim;
  widen_row<Lanes>(row.q + at, dim, q);
  widen_row<Lanes>(row.out + at, dim, query.sum);
  widen_row<Lanes>(row.d_out + at, dim, d_out);
  query.q = q;
  query.d_out = d_out;
  query.offset = W(double(row.log_sum[head]) * kLog2E<double>);
  Lanes total = Lanes::all(0);
  for (int d = 0; d < padded(dim); d += 16) {
    total = Lanes::fma(Lanes::load(d_out + d), Lanes::load(query.sum + d), total);
    Lanes::store(query.sum + d, Lanes::all(0));
  }
  query.d_out_out = Lanes::sum_of(total);
}

template <class Lanes, class T>
void attend_gradient_tile(const AttentionGradientTile<T>& tile) {
  using W = Wide<T>;
  const AttentionShape& shape = *tile.shape;
  const int group = shape.heads / shape.kv_heads, dim = shape.head_dim, width = padded(dim);
  const int count = tile.count * group;
  W* scratch = tile.scratch;
  const auto take = [&](int64_t numbers) { return (scratch += numbers) - numbers; };
  Query<W>* const queries = reinterpret_cast<Query<W>*>(take(query_elements<W>(count)));
  TurnedPage<W> turned;
  turned.keys = take(kPageTokens * width);
  turned.values = take(kPageTokens * width);
  for (int i = 0; i < kPageTokens * width; i += 16) Lanes::store(turned.keys + i, Lanes::all(0));
  int64_t longest = 0;
  for (int i = 0; i < count; ++i) {
    const AttentionGradientRow<T>& row = tile.rows[i / group];
    W *const q = take(width), *const d_out = take(width);
    Query<W>& query = queries[i];
    query = {};
    query.sum = take(width);
    query.weights = take(kPageTokens);
    query.d_scores = take(kPageTokens);
    start_query<Lanes>(row, tile.kv_head * group + i % group, dim, query, q, d_out);
    if (row.keys > longest) longest = row.keys;
  }
  const int64_t head_at = int64_t(tile.kv_head) * 2 * dim * kPageTokens;
  for (int64_t page = 0; page * kPageTokens < longest; ++page)
    for_each_run(tile, page, [&](int first, int end) {
      for (int i = first * group; i < end * group; ++i)
        queries[i].used = used_slots(tile.rows[i / group].keys, page);
      const T* const keys = tile.rows[first].pages[page] + head_at;
      W* const d_keys = tile.rows[first].d_pages[page] + head_at;
      turn_page<Lanes>(keys, dim, turned);
      in_pieces<Lanes>(first * group, end * group, [&]<int N>(int i) {
        gradient_page<Lanes, N>(shape, keys, turned, queries + i, d_keys);
      });
    });
  for (int i = 0; i < count; ++i) {
    const int64_t at = int64_t(tile.kv_head * group + i % group) * dim;
    W* const d_q = tile.rows[i / group].d_q + at;
    for (int d = 0; d < dim; d += 32)
      Lanes::store_pair(d_q + d, dim - d < 32 ? dim - d : 32, Lanes::load(queries[i].sum + d),
                        Lanes::load(queries[i].sum + d + 16));
  }
}

}  // namespace
}  // namespace svfleet
