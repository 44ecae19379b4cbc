// Products of rows with one packed matrix, whose bits do not depend on the other rows of the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace svfleet {

enum class NumberType { kBf16, kFloat, kDouble };

enum class WeightOrder {
  kOutputs,  // the matrix M is [outputs, inputs], row-major: y = x M^T
  kInputs,   // the matrix M is [inputs, outputs], row-major: y = x M
};

// What is added to a product before its only rounding: y = round((x W + bias) + add).
struct ProductExtra {
  const void* add = nullptr;   // [rows, outputs], of the wide type
  const void* bias = nullptr;  // [outputs], of the matrix's type
};

class ProductWeights;

// A matrix packed for products. Movable; every const use is thread-safe and re-entrant.
//
// bf16 and float add up in float, double in double; these are the wide types. A row's bits are a
// function of the row, the matrix, `add` and `bias` alone: not of the number of rows, the row's
// place among them, where memory lies, or the number of threads. An addend of zeros gives the bits
// of no addend. They do depend on implementation(), which the processor decides. Subnormal numbers
// may be taken as zero.
class PackedMatrix {
 public:
  using Extra = ProductExtra;

  // Copies the matrix. `threads`: how many multiply, and whoever is free (worker/kernels/team.h);
  // oneDNN's are OpenMP's, of which in a parallel region there is one. Throws std::invalid_argument
  // for sizes or threads under 1.
  PackedMatrix(NumberType type, const void* matrix, int64_t inputs, int64_t outputs,
               WeightOrder order, int threads);
  explicit PackedMatrix(std::unique_ptr<ProductWeights> weights);  // for tests
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;
  ~PackedMatrix();

  // x [rows, inputs] of the matrix's type. y [rows, outputs]: of the matrix's type, rounded once to
  // nearest even, or of the wide type. y must not overlap what is read. Where oneDNN multiplies,
  // the first call of a shape with a number of rows that is new takes half a millisecond more.
  void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                const Extra& extra = {}) const;

  // Whether it also multiplies by the matrix turned round, and gives single outputs.
  bool turns() const;
  // y [rows, inputs] = x [rows, outputs] times the matrix turned round, with the bits of one that
  // was packed so; `extra` is of y's size. Each tile is turned when it is read, which costs as much
  // as a few rows.
  void multiply_turned(const void* x, int64_t rows, void* y, bool wide_result,
                       const Extra& extra = {}) const;
  // What an output is made with: [inputs].
  void unpack_output(int64_t output, void* entries) const;

  // The matrix as it was given, row-major in the order it was given in, bit for bit.
  void unpack(void* matrix) const;

  NumberType type() const;
  int64_t inputs() const;
  int64_t outputs() const;
  int threads() const;
  const void* data() const;            // the packed copy, to look at
  size_t bytes() const;                // of it
  std::string implementation() const;  // what computes, such as "panels:avx512_bf16"

 private:
  std::unique_ptr<ProductWeights> weights_;
};

// What multiplies on this processor, for a run's identity: "oneDNN 2.6.3 HASH: bf16 by
// panels:avx512_bf16, float32 by panels".
std::string product_identity();

}  // namespace svfleet
