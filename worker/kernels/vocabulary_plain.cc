// vocabulary_kernels.h in plain C++.
#include "worker/kernels/vocabulary_lanes.h"

namespace svfleet {

template <class W>
VocabularyKernels<W> vocabulary_plain() {
  return vocabulary_over_lanes<PlainLanes<W>, W>();
}

template <class T>
LossKernels<T> loss_plain() {
  return loss_over_lanes<PlainLanes<Wide<T>>, T>();
}

template VocabularyKernels<float> vocabulary_plain();
template VocabularyKernels<double> vocabulary_plain();
template LossKernels<bf16> loss_plain();
template LossKernels<float> loss_plain();
template LossKernels<double> loss_plain();

}  // namespace svfleet
