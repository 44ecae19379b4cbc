// Rows times a matrix on a GPU, by cublasLt with one algorithm for every number of rows: what
// cuBLAS does by itself is to choose another one for other numbers, and then a row's bits depend on
// who stands beside it.
#pragma once

#include <cstdint>
#include <string>

#include "worker/kernels/gpu.h"

namespace svfleet::cuda {

// m [outputs, inputs]. y [rows, outputs] = x m^T; with `back` y [rows, inputs] = x m, x [rows,
// outputs]. Sums in float32 (no TF32), no split along them.
template <class T>
struct Product {
  const T* m;
  int64_t outputs, inputs;
  bool back = false;
};

// y in float32, with `add` (float32, as y, or null) added before.
template <class T>
void multiply(const Product<T>& product, const T* x, int64_t rows, const float* add, float* y,
              Stream stream);
// The same, rounded at once, where the algorithm gives the same bits that way; false, and nothing
// done, where it does not.
bool multiply_rounded(const Product<bf16>& product, const bf16* x, int64_t rows, bf16* y,
                      Stream stream);

// What was chosen for each shape so far, a line each.
std::string chosen_products();

}  // namespace svfleet::cuda
