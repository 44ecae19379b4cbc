// Rows of logits [rows, vocabulary]: their softmax's sums, a token's log probability, drawing a
// token, and the gradient of the loss.
//
// W (Wide<T>) is float or double. A temperature T divides the logits; 0 or less leaves them as they
// are (and draw_token takes the largest). The vocabulary is cut into 64 blocks, block b from
// V b / 64 to V (b + 1) / 64, added up each on its own and then in order, in double: a row's bits
// depend neither on the rows beside it nor on threads or instruction set.
//
// A logit of -infinity has probability 0. A row with a NaN, with +infinity or with nothing but
// -infinity has NaN for total, log_sum and entropy; the log probability of its tokens is NaN and
// its draw is some token of the vocabulary.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

constexpr int kVocabularyBlocks = 64;

template <class W>
struct RowSums {
  W max;
  double total;                 // sum of exp((l - max) / T), at least 1
  double log_sum;               // log sum exp(l / T) = max / T + log(total)
  double entropy;               // of softmax(l / T), in nats; 0 where not asked for
  W blocks[kVocabularyBlocks];  // what each block adds to total
};

// out [rows].
template <class W>
void vocabulary_sums(const W* logits, int64_t rows, int64_t vocabulary, double temperature,
                     bool entropy, RowSums<W>* out, int threads);

// log pi(token) = (l - max) / T - log(total): the one formula of sampling and of training.
template <class W>
float log_prob(const W* row, int64_t token, double temperature, const RowSums<W>& sums);

// The first token at which the running sum of probabilities passes uniform (in [0, 1)) times their
// total; never one of probability 0. A temperature of 0 or less: the largest logit, the lowest
// token among equals.
template <class W>
int draw_token(const W* row, int64_t vocabulary, double temperature, double uniform,
               const RowSums<W>& sums);

// out [vocabulary] = softmax(l / T), for what is cut off a distribution before the draw.
template <class W>
void probabilities(const W* row, int64_t vocabulary, double temperature, const RowSums<W>& sums,
                   float* out);

// The gradient by the logits of the sum over rows of
//   -weight log pi(label) + kl_weight KL(pi || base),  KL = sum_v pi_v (log pi_v - log base_v):
//   d_logits_v = (weight (pi_v - [v = label]) + kl_weight pi_v (log pi_v - log base_v - KL)) / T
// written in T for the next product. (A loss kl_weight (log pi - log base)^2 / 2 of the label alone
// needs no base logits here: it lowers weight by kl_weight (log pi - log base).) base_logits,
// base_sums and kl_weights are nullptr without KL; a row whose weights are 0 has zeros, whatever
// its logits. kl [rows], unless nullptr, takes each row's KL (0 where its kl_weight is). logits,
// base_logits, d_logits [rows, vocabulary]; sums, base_sums, labels, weights, kl_weights [rows]. A
// label below 0 is none.
template <class T>
void loss_gradient(const Wide<T>* logits, const Wide<T>* base_logits, int64_t rows,
                   int64_t vocabulary, double temperature, const RowSums<Wide<T>>* sums,
                   const RowSums<Wide<T>>* base_sums, const int* labels, const double* weights,
                   const double* kl_weights, T* d_logits, int threads, double* kl = nullptr);

}  // namespace svfleet
