// What a packed matrix must be able to do; panels do it, or oneDNN with what panels have no
// instructions for.
#pragma once

#include <memory>
#include <string>

#include "worker/kernels/product.h"

namespace svfleet {

struct ProductShape {
  NumberType type;
  int64_t inputs, outputs;
  WeightOrder order;  // of the matrix as given
  int threads;
};

class ProductWeights {
 public:
  explicit ProductWeights(const ProductShape& shape) : shape_(shape) {}
  virtual ~ProductWeights() = default;

  // As in PackedMatrix; rows > 0.
  virtual void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                        const ProductExtra& extra) const = 0;
  virtual bool turns() const { return false; }
  virtual void multiply_turned(const void* x, int64_t rows, void* y, bool wide_result,
                               const ProductExtra& extra) const;
  virtual void unpack(void* matrix) const = 0;
  virtual void unpack_output(int64_t output, void* entries) const;
  virtual const void* data() const = 0;
  virtual size_t bytes() const = 0;
  virtual std::string implementation() const = 0;

  const ProductShape& shape() const { return shape_; }

 private:
  ProductShape shape_;
};

// By this room's own kernels: every type, on every processor, with equal bits (implementation()
// "panels"). A sum is fused and in order of the inputs.
std::unique_ptr<ProductWeights> pack_in_panels(const ProductShape& shape, const void* matrix);

// The same for bfloat16 by instructions that multiply pairs, whose bits are the processor's own
// ("panels:avx512_bf16"). nullptr where this processor has none, or the type is another.
std::unique_ptr<ProductWeights> pack_pairs(const ProductShape& shape, const void* matrix);

// By oneDNN's batch-reduced kernels. nullptr where oneDNN has none for this type on this processor:
// its other implementations let a row's bits depend on the number of rows.
std::unique_ptr<ProductWeights> pack_for_onednn(const ProductShape& shape, const void* matrix);

std::string onednn_version();  // "2.6.3 HASH"

}  // namespace svfleet
