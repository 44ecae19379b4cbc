#include "worker/kernels/probe.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "worker/kernels/bf16.h"

namespace svfleet {
namespace {

constexpr int64_t kBatches[] = {1, 2, 3, 4, 8, 16, 64, 65, 256};
constexpr int64_t kDistinct = 61;  // a prime, so that a row meets every place of a kernel's blocks

// Rows that repeat, and the products they had first.
template <class T>
class Probe {
 public:
  Probe(const PackedMatrix& matrix, int64_t largest)
      : matrix_(matrix),
        x_(size_t((largest + kDistinct) * matrix.inputs()) + 1),
        y_(size_t(largest * matrix.outputs()) + 1),
        truth_(size_t(kDistinct * matrix.outputs())) {
    uint64_t state = 1;
    const size_t distinct = size_t(kDistinct * matrix.inputs());
    for (size_t i = 0; i < distinct; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      x_[i] = narrow<T>(Wide<T>(int64_t(state) >> 40) * Wide<T>(0x1p-22));  // within -2 .. 2
    }
    for (size_t i = distinct; i + 1 < x_.size(); ++i) x_[i] = x_[i - distinct];
  }

  // The batch whose rows all others are compared with: false where its own rows differ.
  bool begin(int64_t rows) {
    matrix_.multiply(x_.data(), rows, y_.data(), false);
    const size_t known = size_t(std::min(rows, kDistinct) * matrix_.outputs());
    std::copy_n(y_.begin(), known, truth_.begin());
    if (rows < kDistinct) {  // the others, where there is no larger batch to take them from
      for (int64_t row = rows; row < kDistinct; ++row) {
        matrix_.multiply(x_.data() + row * matrix_.inputs(), 1,
                         truth_.data() + row * matrix_.outputs(), false);
      }
    }
    return compare(y_.data(), 0, rows);
  }

  // The batch of `rows` rows from row `first` on, all memory one entry further on if `shifted`.
  bool equal(int64_t rows, int64_t first, bool shifted) {
    const T* x = x_.data() + first * matrix_.inputs();
    T* y = y_.data() + (shifted ? 1 : 0);
    if (shifted) {
      shifted_.resize(size_t(rows * matrix_.inputs()) + 1);
      std::copy_n(x, rows * matrix_.inputs(), shifted_.begin() + 1);
      x = shifted_.data() + 1;
    }
    matrix_.multiply(x, rows, y, false);
    return compare(y, first, rows);
  }

 private:
  bool compare(const T* y, int64_t first, int64_t rows) const {
    const size_t row_bytes = size_t(matrix_.outputs()) * sizeof(T);
    for (int64_t row = 0; row < rows; ++row) {
      const T* truth = truth_.data() + (first + row) % kDistinct * matrix_.outputs();
      if (std::memcmp(y + row * matrix_.outputs(), truth, row_bytes) != 0) return false;
    }
    return true;
  }

  const PackedMatrix& matrix_;
  std::vector<T> x_, y_, truth_, shifted_;
};

template <class T>
int64_t invariant_from(const PackedMatrix& matrix, int64_t largest) {
  Probe<T> probe(matrix, largest);
  if (!probe.begin(largest)) return 0;
  std::vector<int64_t> batches;
  for (const int64_t rows : kBatches) {
    if (rows < largest) batches.push_back(rows);
  }
  int64_t from = largest;
  while (!batches.empty()) {
    const int64_t rows = batches.back();
    batches.pop_back();
    // Rows 7 and on cost one more small batch; large batches have many places already.
    if (!probe.equal(rows, rows % 7, true)) break;
    if (rows <= 4 && !probe.equal(rows, 7, false)) break;
    from = rows;
  }
  return from;
}

}  // namespace

int64_t row_invariant_from(const PackedMatrix& matrix, int64_t largest) {
  if (largest < 1) throw std::invalid_argument("a probe of no rows");
  switch (matrix.type()) {
    case NumberType::kBf16:
      return invariant_from<bf16>(matrix, largest);
    case NumberType::kFloat:
      return invariant_from<float>(matrix, largest);
    case NumberType::kDouble:
      return invariant_from<double>(matrix, largest);
  }
  throw std::logic_error("an unknown type of number");
}

}  // namespace svfleet
