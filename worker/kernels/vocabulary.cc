#include "worker/kernels/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "worker/kernels/instruction_set.h"
#include "worker/kernels/share.h"
#include "worker/kernels/vocabulary_kernels.h"

namespace svfleet {
namespace {

template <class W>
VocabularyKernels<W> chosen() {
  if constexpr (sizeof(W) == 4) {
    if (kernels() == Kernels::kAvx512) return vocabulary_avx512<W>();
    if (kernels() == Kernels::kAvx2) return vocabulary_avx2<W>();
  }
  return vocabulary_plain<W>();
}

template <class T>
LossKernels<T> chosen_loss() {
  if constexpr (sizeof(T) < 8) {
    if (kernels() == Kernels::kAvx512) return loss_avx512<T>();
    if (kernels() == Kernels::kAvx2) return loss_avx2<T>();
  }
  return loss_plain<T>();
}

// Near 0 the quotient would overflow.
double divisor(double temperature) {
  return temperature > 0 ? std::max(temperature, 1e-30) : 1;
}

template <class W>
Softened<W> softened(double temperature, const RowSums<W>& sums) {
  return {sums.max, W(1 / divisor(temperature))};
}

int64_t block_start(int64_t vocabulary, int block) {
  return vocabulary * block / kVocabularyBlocks;
}

// The sum in double, in order, of f(first token, tokens) over the blocks.
template <class F>
double over_blocks(int64_t vocabulary, F f) {
  double sum = 0;
  for (int block = 0; block < kVocabularyBlocks; ++block) {
    const int64_t first = block_start(vocabulary, block);
    sum += double(f(block, first, block_start(vocabulary, block + 1) - first));
  }
  return sum;
}

template <class W>
void sum_row(const VocabularyKernels<W>& run, const W* row, int64_t vocabulary, double temperature,
             bool entropy, RowSums<W>& out) {
  out.max = run.largest(row, vocabulary);
  const Softened<W> soft = softened(temperature, out);
  double energy = 0;
  out.total = over_blocks(vocabulary, [&](int block, int64_t first, int64_t n) {
    W of_block = 0;
    out.blocks[block] = run.sum(row + first, n, soft, entropy ? &of_block : nullptr);
    energy += double(of_block);
    return out.blocks[block];
  });
  out.log_sum = double(out.max) / divisor(temperature) + std::log(out.total);
  out.entropy = entropy ? std::max(std::log(out.total) - energy / out.total, 0.0) : 0;
  if (std::isnan(out.total)) out.log_sum = out.entropy = out.total;
}

template <class W>
double precise_log_prob(W logit, double temperature, const RowSums<W>& sums) {
  return (double(logit) - double(sums.max)) / divisor(temperature) - std::log(sums.total);
}

template <class W>
int first_largest(const W* row, int64_t vocabulary, W max) {
  for (int64_t i = 0; i < vocabulary; ++i)
    if (row[i] == max) return int(i);
  return 0;
}

// The first of n values at which sum + their running sum passes the goal; the last above 0 where
// none does, -1 where none is.
template <class W>
int64_t first_past(const W* values, int64_t n, double sum, double goal) {
  int64_t last = -1;
  for (int64_t i = 0; i < n; ++i) {
    if (!(values[i] > 0)) continue;
    last = i;
    sum += double(values[i]);
    if (sum > goal) break;
  }
  return last;
}

}  // namespace

template <class W>
void vocabulary_sums(const W* logits, int64_t rows, int64_t vocabulary, double temperature,
                     bool entropy, RowSums<W>* out, int threads) {
  const VocabularyKernels<W> run = chosen<W>();
  share(rows, 1, rows * vocabulary, threads, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row)
      sum_row(run, logits + row * vocabulary, vocabulary, temperature, entropy, out[row]);
  });
}

template <class W>
float log_prob(const W* row, int64_t token, double temperature, const RowSums<W>& sums) {
  return float(precise_log_prob(row[token], temperature, sums));
}

template <class W>
int draw_token(const W* row, int64_t vocabulary, double temperature, double uniform,
               const RowSums<W>& sums) {
  if (temperature <= 0 || !std::isfinite(sums.total))
    return first_largest(row, vocabulary, sums.max);
  const double goal = uniform * sums.total;
  double before = 0, before_last = 0;
  int block = 0;
  for (int b = 0; b < kVocabularyBlocks; ++b) {
    if (!(sums.blocks[b] > 0)) continue;
    block = b;
    before_last = before;
    before += double(sums.blocks[b]);
    if (before > goal) break;
  }
  const int64_t first = block_start(vocabulary, block);
  const int64_t n = block_start(vocabulary, block + 1) - first;
  std::vector<W> values(n);
  chosen<W>().exponentials(row + first, n, softened(temperature, sums), values.data());
  return int(first + first_past(values.data(), n, before_last, goal));
}

template <class W>
void probabilities(const W* row, int64_t vocabulary, double temperature, const RowSums<W>& sums,
                   float* out) {
  chosen<W>().probabilities(row, vocabulary, softened(temperature, sums), W(1 / sums.total), out);
}

namespace {

// One row of logits and what its loss is.
template <class T>
struct LossRow {
  using W = Wide<T>;
  const W *logits, *base;
  int64_t vocabulary;
  double temperature;
  const RowSums<W>*sums, *base_sums;
  int label;
  double weight, kl_weight;
};

template <class T>
double row_divergence(const LossRow<T>& row, Ratio<Wide<T>> ratio) {
  const VocabularyKernels<Wide<T>> run = chosen<Wide<T>>();
  const Softened<Wide<T>> soft = softened(row.temperature, *row.sums);
  const double sum = over_blocks(row.vocabulary, [&](int, int64_t first, int64_t n) {
    return run.divergence(row.logits + first, row.base + first, n, soft, ratio);
  });
  return sum / row.sums->total;
}

// Writes d_logits [vocabulary]; returns KL.
template <class T>
double row_gradient(const LossRow<T>& row, T* d_logits) {
  using W = Wide<T>;
  if (row.weight == 0 && row.kl_weight == 0) {
    std::fill(d_logits, d_logits + row.vocabulary, T{});
    return 0;
  }
  const LossKernels<T> run = chosen_loss<T>();
  const Softened<W> soft = softened(row.temperature, *row.sums);
  const double scale = 1 / divisor(row.temperature), part = scale / row.sums->total;
  const double weight = row.weight, kl_weight = row.kl_weight;
  double kl = 0;
  if (kl_weight == 0) {
    run.plain(row.logits, row.vocabulary, soft, W(weight * part), d_logits);
  } else {
    const double shift = (double(row.sums->max) - double(row.base_sums->max)) * scale +
                         std::log(row.sums->total) - std::log(row.base_sums->total);
    const Ratio<W> ratio{soft.inverse, W(shift)};
    kl = row_divergence(row, ratio);
    run.with_kl(row.logits, row.base, row.vocabulary, soft, ratio,
                {W(weight * part), W(kl_weight * part), W(kl)}, d_logits);
  }
  if (row.label < 0) return kl;
  // pi - 1 without the cancellation of a likely label.
  const double log_pi = precise_log_prob(row.logits[row.label], row.temperature, *row.sums);
  double own = weight * std::expm1(log_pi);
  if (kl_weight != 0 && std::exp(log_pi) > 0)
    own += kl_weight * std::exp(log_pi) *
           (log_pi - precise_log_prob(row.base[row.label], row.temperature, *row.base_sums) - kl);
  d_logits[row.label] = narrow<T>(W(own * scale));
  return kl;
}

}  // namespace

template <class T>
void loss_gradient(const Wide<T>* logits, const Wide<T>* base_logits, int64_t rows,
                   int64_t vocabulary, double temperature, const RowSums<Wide<T>>* sums,
                   const RowSums<Wide<T>>* base_sums, const int* labels, const double* weights,
                   const double* kl_weights, T* d_logits, int threads, double* kl) {
  share(rows, 1, rows * vocabulary, threads, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t at = row * vocabulary;
      const LossRow<T> own{logits + at,
                           base_logits ? base_logits + at : nullptr,
                           vocabulary,
                           temperature,
                           sums + row,
                           base_sums ? base_sums + row : nullptr,
                           labels[row],
                           weights[row],
                           kl_weights ? kl_weights[row] : 0};
      const double own_kl = row_gradient<T>(own, d_logits + at);
      if (kl) kl[row] = own_kl;
    }
  });
}

#define SVFLEET_FOR(W)                                                                          \
  template void vocabulary_sums<W>(const W*, int64_t, int64_t, double, bool, RowSums<W>*, int); \
  template float log_prob<W>(const W*, int64_t, double, const RowSums<W>&);                     \
  template int draw_token<W>(const W*, int64_t, double, double, const RowSums<W>&);             \
  template void probabilities<W>(const W*, int64_t, double, const RowSums<W>&, float*);
SVFLEET_FOR(float)
SVFLEET_FOR(double)
#undef SVFLEET_FOR

#define SVFLEET_FOR(T)                                                                         \
  template void loss_gradient<T>(const Wide<T>*, const Wide<T>*, int64_t, int64_t, double,     \
                                 const RowSums<Wide<T>>*, const RowSums<Wide<T>>*, const int*, \
                                 const double*, const double*, T*, int, double*);
SVFLEET_FOR(bf16)
SVFLEET_FOR(float)
SVFLEET_FOR(double)
#undef SVFLEET_FOR

}  // namespace svfleet
