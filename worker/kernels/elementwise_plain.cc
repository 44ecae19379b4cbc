// elementwise_kernels.h in plain C++.
#include "worker/kernels/elementwise_lanes.h"

namespace svfleet {

template <class T>
ElementwiseKernels<T> elementwise_plain() {
  return elementwise_over_lanes<PlainLanes<Wide<T>>, T>();
}

template ElementwiseKernels<bf16> elementwise_plain();
template ElementwiseKernels<float> elementwise_plain();
template ElementwiseKernels<double> elementwise_plain();

}  // namespace svfleet
