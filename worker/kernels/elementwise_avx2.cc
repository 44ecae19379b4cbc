// elementwise_kernels.h in AVX2.
#include "worker/kernels/elementwise_lanes.h"
#include "worker/kernels/lanes_avx2.h"

namespace svfleet {

template <class T>
ElementwiseKernels<T> elementwise_avx2() {
  return elementwise_over_lanes<Avx2Lanes, T>();
}

template ElementwiseKernels<bf16> elementwise_avx2();
template ElementwiseKernels<float> elementwise_avx2();

}  // namespace svfleet
