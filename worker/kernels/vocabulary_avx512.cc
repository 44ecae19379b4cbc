// vocabulary_kernels.h in AVX-512.
#include "worker/kernels/lanes_avx512.h"
#include "worker/kernels/vocabulary_lanes.h"

namespace svfleet {

template <class W>
VocabularyKernels<W> vocabulary_avx512() {
  return vocabulary_over_lanes<Avx512Lanes, W>();
}

template <class T>
LossKernels<T> loss_avx512() {
  return loss_over_lanes<Avx512Lanes, T>();
}

template VocabularyKernels<float> vocabulary_avx512();
template LossKernels<bf16> loss_avx512();
template LossKernels<float> loss_avx512();

}  // namespace svfleet
