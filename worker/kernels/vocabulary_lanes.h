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

// (l - max) * inverse.
template <class L>
inline L scaled(const L& logits, const Softened<typename L::Scalar>& soft) {
  return (logits - L::set(soft.max)) * L::set(soft.inverse);
}

template <class L>
inline L exponential(const L& logits, const Softened<typename L::Scalar>& soft) {
  return exp_up_to_zero(scaled(logits, soft));
}

template <class W>
constexpr W kNoLogit = W(-__builtin_inff());

template <class L, class W>
W largest_lanes(const W* logits, int64_t n) {
  // Four at a time: one alone would wait for itself.
  L most = L::set(kNoLogit<W>), second = most, third = most, fourth = most;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    most = max(L::load(logits + i, AllLanes()), most);
    second = max(L::load(logits + i + kLanes, AllLanes()), second);
    third = max(L::load(logits + i + 2 * kLanes, AllLanes()), third);
    fourth = max(L::load(logits + i + 3 * kLanes, AllLanes()), fourth);
  }
  most = max(max(most, second), max(third, fourth));
  for_lanes(n - i, [&](int64_t j, auto count) {
    most = max(L::load(logits + i + j, count, kNoLogit<W>), most);
  });
  return most.largest();
}

template <class L, class W>
W sum_lanes(const W* logits, int64_t n, Softened<W> soft, W* energy) {
  L sum = L::set(0), energies = L::set(0);
  if (energy) {
    const L lowest = L::set(-1000);
    for_lanes(n, [&](int64_t i, auto count) {
      const L z = scaled(L::load(logits + i, count, kNoLogit<W>), soft), e = exp_up_to_zero(z);
      sum = sum + e;
      energies = fma(e, max(lowest, z), energies);  // 0 * -infinity would be NaN
    });
    *energy = energies.sum();
  } else {
    for_lanes(n, [&](int64_t i, auto count) {
      sum = sum + exponential(L::load(logits + i, count, kNoLogit<W>), soft);
    });
  }
  return sum.sum();
}

template <class L, class W>
void exponentials_lanes(const W* logits, int64_t n, Softened<W> soft, W* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    exponential(L::load(logits + i, count), soft).store(out + i, count);
  });
}

template <class L, class W>
void probabilities_lanes(const W* logits, int64_t n, Softened<W> soft, W factor, float* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    (exponential(L::load(logits + i, count), soft) * L::set(factor)).store(out + i, count);
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
    const L l = L::load(logits + i, count, kNoLogit<W>), e = exponential(l, soft);
    sum = sum + where_possible(e, e * log_ratio(l, L::load(base + i, count), ratio));
  });
  return sum.sum();
}

template <class L, class T>
void loss_lanes(const Wide<T>* logits, int64_t n, Softened<Wide<T>> soft, Wide<T> factor, T* out) {
  for_lanes(n, [&](int64_t i, auto count) {
    (exponential(L::load(logits + i, count), soft) * L::set(factor)).store(out + i, count);
  });
}

template <class L, class T>
void loss_with_kl_lanes(const Wide<T>* logits, const Wide<T>* base, int64_t n,
                        Softened<Wide<T>> soft, Ratio<Wide<T>> ratio, LossFactors<Wide<T>> factors,
                        T* out) {
  const L factor = L::set(factors.factor), kl_factor = L::set(factors.kl_factor),
          kl = L::set(factors.kl);
  for_lanes(n, [&](int64_t i, auto count) {
    const L l = L::load(logits + i, count), e = exponential(l, soft);
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
