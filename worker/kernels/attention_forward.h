// attend for one tile, written once for all instruction sets; see attention_block.h.
#pragma once

#include <cmath>

#include "worker/kernels/attention_block.h"

namespace svfleet {
namespace {

// One more page's scores: p of its slots, relative to the new maximum, and what that does to the
// sums so far.
template <class Lanes, class T>
SVFLEET_INLINE void take_scores(Query<Wide<T>>& query, Lanes (&score)[2], Wide<T> scale, int dim) {
  using W = Wide<T>;
  for (Lanes& x : score) x = Lanes::multiply(x, Lanes::all(scale));
  if (query.used < kPageTokens) keep_used<Lanes, T>(score, query.used, -W(INFINITY));
  const W here = Lanes::max_of(Lanes::largest(score[0], score[1]));
  const W max = query.started ? (query.max > here ? query.max : here) : here;
  for (Lanes& x : score) x = exp2(Lanes::subtract(x, Lanes::all(max)));
  if (query.used < kPageTokens) keep_used<Lanes, T>(score, query.used, W(0));
  Lanes::store(query.weights, score[0]);
  Lanes::store(query.weights + 16, score[1]);
  Lanes total = Lanes::load(query.total);
  if (query.started && !(max == query.max)) {
    const Lanes factor = exp2(Lanes::all(query.max - max));
    total = Lanes::multiply(total, factor);
    for (int d = 0; d < padded(dim); d += 16)
      Lanes::store(query.sum + d, Lanes::multiply(Lanes::load(query.sum + d), factor));
  }
  Lanes::store(query.total, Lanes::add(total, Lanes::add(score[0], score[1])));
  query.max = max;
  query.started = true;
}

// N queries, all of which attend to at least one slot of the page.
template <class Lanes, int N, class T>
void attend_page(const AttentionShape& shape, const T* keys, Query<Wide<T>>* queries) {
  using W = Wide<T>;
  const int dim = shape.head_dim;
  const T* const values = keys + int64_t(dim) * kPageTokens;
  const W *q[N], *weights[N];
  W* sums[N];
  int shared = kPageTokens;
  for (int n = 0; n < N; ++n) {
    q[n] = queries[n].q;
    weights[n] = queries[n].weights;
    sums[n] = queries[n].sum;
    if (queries[n].used < shared) shared = queries[n].used;
  }
  Lanes scores[N][2];
  dots<Lanes, N>(keys, dim, q, scores);
  for (int n = 0; n < N; ++n)
    take_scores<Lanes, T>(queries[n], scores[n], W(shape.scale * kLog2E<double>), dim);
  add_weighted_rows<Lanes, N>(values, dim, dim, 0, shared, PlaceInPair<T>(), weights, sums);
  for (int n = 0; n < N; ++n)
    if (queries[n].used > shared)
      add_weighted_rows<Lanes, 1>(values, dim, dim, shared, queries[n].used, PlaceInPair<T>(),
                                  {weights[n]}, {sums[n]});
}

template <class Lanes, class T>
void finish_query(const Query<Wide<T>>& query, int dim, T* out, Wide<T>* log_sum) {
  using W = Wide<T>;
  const W total = query.started ? Lanes::sum_of(Lanes::load(query.total)) : W(0);
  const Lanes factor = Lanes::all(query.started ? W(1) / total : W(0));
  for (int d = 0; d < dim; d += 32) {
    const Lanes a = Lanes::multiply(Lanes::load(query.sum + d), factor);
    const Lanes b = Lanes::multiply(Lanes::load(query.sum + d + 16), factor);
    Lanes::store_pair(out + d, dim - d < 32 ? dim - d : 32, a, b);
  }
  if (log_sum) {
    const double max = query.started ? double(query.max) : 0;
    *log_sum = W(max / kLog2E<double> + std::log(double(total)));
  }
}

template <class Lanes, class T>
void attend_tile(const AttentionTile<T>& tile) {
  using W = Wide<T>;
  const AttentionShape& shape = *tile.shape;
  const int group = shape.heads / shape.kv_heads, dim = shape.head_dim, width = padded(dim);
  const int count = tile.count * group;
  W* scratch = tile.scratch;
  const auto take = [&](int64_t numbers) { return (scratch += numbers) - numbers; };
  Query<W>* const queries = reinterpret_cast<Query<W>*>(take(query_elements<W>(count)));
  int64_t longest = 0;
  for (int i = 0; i < count; ++i) {
    const AttentionRow<T>& row = tile.rows[i / group];
    const int64_t at = int64_t(tile.kv_head * group + i % group) * dim;
    W* const q = take(width);
    Query<W>& query = queries[i];
    query = {};
    query.q = q;
    query.sum = take(width);
    query.weights = take(kPageTokens);
    query.total = take(16);
    widen_row<Lanes>(row.q + at, dim, q);
    for (int d = 0; d < width; d += 16) Lanes::store(query.sum + d, Lanes::all(0));
    Lanes::store(query.total, Lanes::all(0));
    if (row.keys > longest) longest = row.keys;
  }
  const int64_t head_at = int64_t(tile.kv_head) * 2 * dim * kPageTokens;
  for (int64_t page = 0; page * kPageTokens < longest; ++page)
    for_each_run(tile, page, [&](int first, int end) {
      for (int i = first * group; i < end * group; ++i)
        queries[i].used = used_slots(tile.rows[i / group].keys, page);
      const T* const keys = tile.rows[first].pages[page] + head_at;
      in_pieces<Lanes>(first * group, end * group,
                       [&]<int N>(int i) { attend_page<Lanes, N>(shape, keys, queries + i); });
    });
  for (int i = 0; i < count; ++i) {
    const AttentionRow<T>& row = tile.rows[i / group];
    const int head = tile.kv_head * group + i % group;
    finish_query<Lanes>(queries[i], dim, row.out + int64_t(head) * dim,
                        row.log_sum ? row.log_sum + head : nullptr);
  }
}

}  // namespace
}  // namespace svfleet
