// attend for one tile, written once for all instruction sets; see attention_block.h.
#pragma once

#include <cmath>

#include "worker/kernels/attention_block.h"

namespace svfleet {
namespace {

// soft_cap tanh(scale q.k / soft_cap) of a product q.k, in powers of two.
template <class Lanes>
SVFLEET_INLINE Lanes capped(const AttentionShape& shape, Lanes product) {
  using W = typename Lanes::Number;
  const Lanes t = tanh_of(Lanes::multiply(product, Lanes::all(W(shape.scale / shape.soft_cap))));
  return Lanes::multiply(t, Lanes::all(W(shape.soft_cap * kLog2E<double>)));
}

// N queries' scores of one page's slots, in powers of two, and the largest so far. The one before
// is left in `factor`.
template <class Lanes, int N, class T>
SVFLEET_INLINE void take_scores(const AttentionShape& shape, const T* keys, int64_t page,
                                const Queries<Wide<T>>& queries, int first) {
  using W = Wide<T>;
  Lanes score[N][2];
  dots<Lanes, N>(keys, shape.head_dim, queries.q + int64_t(first) * queries.width, queries.width,
                 score);
  const Lanes scale = Lanes::all(W(shape.scale * kLog2E<double>));
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    const int at = first + n;
    for (int i = 0; i < 2; ++i) {
      const Lanes powers =
          shape.soft_cap > 0 ? capped(shape, score[n][i]) : Lanes::multiply(score[n][i], scale);
      score[n][i] = keep_used(queries, at, 16 * i, powers, Lanes::all(-W(INFINITY)));
      Lanes::store(queries.weights + at * kPageTokens + 16 * i, score[n][i]);
    }
    const W here = Lanes::max_of(Lanes::largest(score[n][0], score[n][1]));
    const W before = page == queries.first_page[at] ? here : queries.max[at];
    queries.factor[at] = before;
    queries.max[at] = before > here ? before : here;
  }
}

// From the scores to p relative to the largest so far, and what that does to the sums before.
template <class Lanes, class W>
SVFLEET_INLINE void take_weights(const Queries<W>& queries, int count) {
  for (int i = 0; i < count; i += 16)
    Lanes::store(queries.factor + i, exp2(Lanes::subtract(Lanes::load(queries.factor + i),
                                                          Lanes::load(queries.max + i))));
  for (int n = 0; n < count; ++n) {
    if (queries.used[n] == 0) continue;
    W *const weights = queries.weights + n * kPageTokens, *const total = queries.total + n * 16;
    const Lanes max = Lanes::all(queries.max[n]);
    Lanes p[2];
    for (int i = 0; i < 2; ++i) {
      p[i] = exp2(Lanes::subtract(Lanes::load(weights + 16 * i), max));
      p[i] = keep_used(queries, n, 16 * i, p[i], Lanes::all(0));
      Lanes::store(weights + 16 * i, p[i]);
    }
    const Lanes before = Lanes::multiply(Lanes::load(total), Lanes::all(queries.factor[n]));
    Lanes::store(total, Lanes::add(before, Lanes::add(p[0], p[1])));
  }
}

template <class Lanes, class T>
void finish_query(const Queries<Wide<T>>& queries, int n, int64_t keys, int dim, T* out,
                  Wide<T>* log_sum) {
  using W = Wide<T>;
  const W total = keys > 0 ? Lanes::sum_of(Lanes::load(queries.total + n * 16)) : W(0);
  const Lanes factor = Lanes::all(keys > 0 ? W(1) / total : W(0));
  const W* const sum = queries.sum + int64_t(n) * queries.width;
  for (int d = 0; d < dim; d += 32)
    Lanes::store_pair(out + d, dim - d < 32 ? dim - d : 32,
                      Lanes::multiply(Lanes::load(sum + d), factor),
                      Lanes::multiply(Lanes::load(sum + d + 16), factor));
  if (!log_sum) return;
  const double max = keys > 0 ? double(queries.max[n]) / kLog2E<double> : 0;
  *log_sum = W(max + std::log(double(total)));
}

template <class Lanes, class T>
void attend_tile(const AttentionTile<T>& tile) {
  using W = Wide<T>;
  const AttentionShape& shape = *tile.shape;
  const int group = shape.heads / shape.kv_heads, dim = shape.head_dim;
  const int count = tile.count * group, head = tile.kv_head * group;
  Queries<W> queries;
  lay_out(queries, count, dim, false, tile.scratch);
  for (int i = 0; i < count; ++i)
    widen_row<Lanes>(tile.rows[i / group].q + int64_t(head + i % group) * dim, dim,
                     queries.q + int64_t(i) * queries.width);
  for (int64_t i = 0; i < int64_t(count) * queries.width; ++i) queries.sum[i] = 0;
  for (int64_t i = 0; i < count * 16; ++i) queries.total[i] = 0;
  for (int i = 0; i < (count + 15) / 16 * 16; ++i) queries.max[i] = queries.factor[i] = 0;
  for (int i = 0; i < count; ++i)
    queries.first_page[i] = int(first_key(shape, tile.rows[i / group].keys) / kPageTokens);

  const int64_t keys_at = int64_t(tile.kv_head) * 2 * dim * kPageTokens;
  const int64_t values_at = keys_at + int64_t(dim) * kPageTokens;
  const int64_t pages = most_pages(tile);
  for (int64_t page = first_page(tile); page < pages; ++page) {
    count_used(tile, group, page, queries);
    for_each_run(tile, page, [&](int first, int end) {
      const T* const keys = tile.rows[first].pages[page] + keys_at;
      in_pieces<Lanes>(first * group, end * group,
                       [&]<int N>(int i) { take_scores<Lanes, N>(shape, keys, page, queries, i); });
    });
    take_weights<Lanes>(queries, count);
    for_each_run(tile, page, [&](int first, int end) {
      const T* const values = tile.rows[first].pages[page] + values_at;
      in_pieces<Lanes>(first * group, end * group, [&]<int N>(int i) {
        add_used_rows<Lanes, N>(values, dim, queries, i, queries.weights, queries.factor);
      });
    });
  }
  for (int i = 0; i < count; ++i) {
    const AttentionRow<T>& row = tile.rows[i / group];
    const int at = head + i % group;
    finish_query<Lanes>(queries, i, row.keys, dim, row.out + int64_t(at) * dim,
                        row.log_sum ? row.log_sum + at : nullptr);
  }
}

}  // namespace
}  // namespace svfleet
