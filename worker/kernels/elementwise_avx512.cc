// elementwise_kernels.h in AVX-512.
#include "worker/kernels/elementwise_lanes.h"
#include "worker/kernels/lanes_avx512.h"

namespace svfleet {

template <class T>
ElementwiseKernels<T> elementwise_avx512() {
  return elementwise_over_lanes<Avx512Lanes, T>();
}

template ElementwiseKernels<bf16> elementwise_avx512();
template ElementwiseKernels<float> elementwise_avx512();

}  // namespace svfleet
