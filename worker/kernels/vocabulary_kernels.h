// The loops of vocabulary.h over one row's logits, for each instruction set.
#pragma once

#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {

// exp((l - max) * inverse), the same bits wherever it is computed.
template <class W>
struct Softened {
  W max;
  W inverse;  // of the temperature
};

// log pi - log base of a token is (l - base l) * inverse - shift.
template <class W>
struct Ratio {
  W inverse;
  W shift;
};

// d_logits = e (factor + kl_factor (log ratio - kl)), e = exp((l - max) * inverse).
template <class W>
struct LossFactors {
  W factor, kl_factor, kl;
};

template <class W>
struct VocabularyKernels {
  // The largest of n logits; of NaNs it may see or miss some.
  W (*largest)(const W* logits, int64_t n);
  // Returns the sum of e; *energy the sum of e (l - max) * inverse, unless nullptr.
  W (*sum)(const W* logits, int64_t n, Softened<W> soft, W* energy);
  // out[i] = e[i].
  void (*exponentials)(const W* logits, int64_t n, Softened<W> soft, W* out);
  // out[i] = float(e[i] * factor).
  void (*probabilities)(const W* logits, int64_t n, Softened<W> soft, W factor, float* out);
  // The sum of e * log ratio; where e is 0 so is the product.
  W (*divergence)(const W* logits, const W* base, int64_t n, Softened<W> soft, Ratio<W> ratio);
};

template <class T>
struct LossKernels {
  using W = Wide<T>;
  void (*plain)(const W* logits, int64_t n, Softened<W> soft, W factor, T* out);
  void (*with_kl)(const W* logits, const W* base, int64_t n, Softened<W> soft, Ratio<W> ratio,
                  LossFactors<W> factors, T* out);
};

template <class W>
VocabularyKernels<W> vocabulary_plain();  // float, double
template <class T>
LossKernels<T> loss_plain();  // bf16, float, double
template <class W>
VocabularyKernels<W> vocabulary_avx2();  // float
template <class T>
LossKernels<T> loss_avx2();  // bf16, float
template <class W>
VocabularyKernels<W> vocabulary_avx512();  // float
template <class T>
LossKernels<T> loss_avx512();  // bf16, float

}  // namespace svfleet
