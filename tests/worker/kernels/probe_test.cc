// The probe finds nothing in real products, and finds what is planted.
#include "worker/kernels/probe.h"

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "tests/worker/kernels/random_numbers.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

TEST(Probe, FindsNothing) {
  const auto matrix = random_numbers<bf16>(70 * 90, 1);
  const auto floats = random_numbers<float>(70 * 90, 1);
  const auto doubles = random_numbers<double>(70 * 90, 1);
  for (const int threads : {1, 2}) {
    for (const int64_t largest : {1, 2, 40, 64, 256, 300}) {
      const auto order = WeightOrder::kOutputs;
      EXPECT_EQ(
          row_invariant_from({NumberType::kBf16, matrix.data(), 70, 90, order, threads}, largest),
          1);
      EXPECT_EQ(
          row_invariant_from({NumberType::kFloat, floats.data(), 70, 90, order, threads}, largest),
          1);
    }
  }
  EXPECT_EQ(row_invariant_from(
                {NumberType::kDouble, doubles.data(), 70, 90, WeightOrder::kOutputs, 1}, 80),
            1);
}

// Panels, one of whose bits is changed in a row that `wrong` names.
class Planted : public ProductWeights {
 public:
  using Wrong = std::function<bool(const void* x, int64_t row, int64_t rows)>;

  Planted(const std::vector<float>& matrix, Wrong wrong)
      : ProductWeights({NumberType::kFloat, 7, 9, WeightOrder::kInputs, 1}),
        panels_(pack_in_panels(shape(), matrix.data())),
        wrong_(std::move(wrong)) {}

  void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                const ProductExtra& extra) const override {
    panels_->multiply(x, rows, y, wide_result, extra);
    for (int64_t row = 0; row < rows; ++row) {
      if (wrong_(x, row, rows)) static_cast<char*>(y)[(row * 9 + 8) * 4] ^= 1;
    }
  }
  void unpack(void* matrix) const override { panels_->unpack(matrix); }
  const void* data() const override { return panels_->data(); }
  size_t bytes() const override { return panels_->bytes(); }
  std::string implementation() const override { return "planted"; }

 private:
  std::unique_ptr<ProductWeights> panels_;
  Wrong wrong_;
};

int64_t probe(Planted::Wrong wrong) {
  static const auto matrix = random_numbers<float>(7 * 9, 1);
  return row_invariant_from(PackedMatrix(std::make_unique<Planted>(matrix, wrong)), 300);
}

TEST(Probe, FindsWhatIsPlanted) {
  EXPECT_EQ(probe([](auto, int64_t, int64_t) { return false; }), 1);
  EXPECT_EQ(probe([](auto, int64_t, int64_t rows) { return rows == 1; }), 2);
  EXPECT_EQ(probe([](auto, int64_t, int64_t rows) { return rows < 4; }), 4);
  EXPECT_EQ(probe([](auto, int64_t row, int64_t rows) { return rows == 8 && row == 7; }), 16);
  EXPECT_EQ(probe([](auto, int64_t, int64_t rows) { return rows < 300; }), 300);
  EXPECT_EQ(probe([](auto, int64_t row, int64_t rows) { return rows == 65 && row >= 64; }), 256);
  // By place: the last row of the largest batch is also an earlier one.
  EXPECT_EQ(probe([](auto, int64_t row, int64_t) { return row == 299; }), 0);
  EXPECT_EQ(probe([](auto, int64_t row, int64_t) { return row % 2 == 1; }), 0);
  // By memory: what is aligned for vectors is taken otherwise.
  EXPECT_EQ(probe([](const void* x, int64_t, int64_t) { return uintptr_t(x) % 8 != 0; }), 300);
}

TEST(Probe, RefusesNoRows) {
  const float one = 1;
  const PackedMatrix matrix(NumberType::kFloat, &one, 1, 1, WeightOrder::kInputs, 1);
  EXPECT_THROW(row_invariant_from(matrix, 0), std::invalid_argument);
}

}  // namespace
}  // namespace svfleet
