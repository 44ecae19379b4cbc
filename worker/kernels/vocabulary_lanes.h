// The loops of vocabulary_kernels.h, written over lanes L.
#pragma once

#include "worker/kernels/lane_exp.h"
#include "worker/kernels/lanes.h"
#include "worker/kernels/vocabulary_kernels.h"

namespace svfleet {
namespace {

constexpr float smallest_normal(float) {
  return __FLT_MIN__;
}
constexpr double smallest_normal(double) {
  return __DBL_MIN__;
}

// (l - max) * inverse, where it is not so low that its exp is 0: there something finite, so that
// the product of both is 0, too.
template <class L>
inline L scaled(const L& logits, const Softened<typename L::Scalar>& soft) {
  using W = typename L::Scalar;
  const L low = L::set(sizeof(W) == 4 ? W(-88) : W(-750));
  return max(low, (logits - L::set(soft.max)) * L::set(soft.inverse));
}

template <class W>
constexpr W kNoLogit = W(-__builtin_inff());

template <class L, class W>
W largest_lanes(const W* logits, int64_t n) {
  L most = L::set(kNoLogit<W>);
  for_lanes(
      n, [&](int64_t i, auto count) { most = max(L::load(logits + i, count, kNoLogit<W>), most); });
  return most.largest();
}

template <class L, class W>
W sum_lanes(const W* logits, int64_t n, Softened<W> soft, W* energy) {
  L sum = L::set(0), energies = L::set(0);
  if (energy) {
    for_lanes(n, [&](int64_t i, auto count) {
      const L z = scaled(L::load(logits + i, count, kNoLogit<W>), soft), e = exp(z);
      sum = sum + e;
      energies = fma(e, z, energies);
    });
    *energy = energies.sum();
  } else {
    for_lanes(n, [&](int64_t i, auto count) {
      sum = sum + exp(scaled(L::load(logits + i, count, kNoLogit<W>), soft));
    });
  }
  return sum.sum();
}

template <class L, class W>
void exponentials_lanes(const W* logits, int64_t n, Softened<W> soft, W* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    exp(scaled(L::load(logits + i, count), soft)).store(out + i, count);
  });
}

template <class L, class W>
void probabilities_lanes(const W* logits, int64_t n, Softened<W> soft, W factor, float* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    (exp(scaled(L::load(logits + i, count), soft)) * L::set(factor)).store(out + i, count);
  });
}

template <class L, class W>
inline L log_ratio(const L& logits, const L& base, const Ratio<W>& ratio) {
  return (logits - base) * L::set(ratio.inverse) - L::set(ratio.shift);
}

// value, but 0 where e is.
template <class L>
inline L where_possible(const L& e, const L& value) {
  using W = typename L::Scalar;
  return where_less(e, L::set(smallest_normal(W())), L::set(0), value);
}

template <class L, class W>
W divergence_lanes(const W* logits, const W* base, int64_t n, Softened<W> soft, Ratio<W> ratio) {
  L sum = L::set(0);
  for_lanes(n, [&](int64_t i, auto count) {
    const L l = L::load(logits + i, count, kNoLogit<W>), e = exp(scaled(l, soft));
    sum = sum + where_possible(e, e * log_ratio(l, L::load(base + i, count), ratio));
  });
  return sum.sum();
}

template <class L, class T>
void loss_lanes(const Wide<T>* logits, int64_t n, Softened<Wide<T>> soft, Wide<T> factor, T* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    (exp(scaled(L::load(logits + i, count), soft)) * L::set(factor)).store(out + i, count);
  });
}

template <class L, class T>
void loss_with_kl_lanes(const Wide<T>* logits, const Wide<T>* base, int64_t n,
                        Softened<Wide<T>> soft, Ratio<Wide<T>> ratio, LossFactors<Wide<T>> factors,
                        T* out) {
  const L factor = L::set(factors.factor), kl_factor = L::set(factors.kl_factor),
          kl = L::set(factors.kl);
  for_lanes(n, [&](int64_t i, auto count) {
    const L l = L::load(logits + i, count), e = exp(scaled(l, soft));
    const L beyond = log_ratio(l, L::load(base + i, count), ratio) - kl;
    where_possible(e, e * fma(kl_factor, beyond, factor)).store(out + i, count);
  });
}

template <class L, class W>
VocabularyKernels<W> vocabulary_over_lanes() {
  return {largest_lanes<L, W>, sum_lanes<L, W>, exponentials_lanes<L, W>, probabilities_lanes<L, W>,
          divergence_lanes<L, W>};
}

template <class L, class T>
LossKernels<T> loss_over_lanes() {
  return {loss_lanes<L, T>, loss_with_kl_lanes<L, T>};
}

}  // namespace
}  // namespace svfleet
