// vocabulary_kernels.h in AVX2.
#include "worker/kernels/lanes_avx2.h"
#include "worker/kernels/vocabulary_lanes.h"

namespace svfleet {

template <class W>
VocabularyKernels<W> vocabulary_avx2() {
  return vocabulary_over_lanes<Avx2Lanes, W>();
}

template <class T>
LossKernels<T> loss_avx2() {
  return loss_over_lanes<Avx2Lanes, T>();
}

template VocabularyKernels<float> vocabulary_avx2();
template LossKernels<bf16> loss_avx2();
template LossKernels<float> loss_avx2();

}  // namespace svfleet
