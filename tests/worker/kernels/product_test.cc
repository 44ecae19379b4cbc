// Products with packed matrices, by oneDNN and by panels, against sums in double written here.
#include "worker/kernels/product.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/worker/kernels/random_numbers.h"
#include "worker/kernels/instruction_set.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

template <class T>
constexpr NumberType kType = sizeof(T) == 2   ? NumberType::kBf16
                             : sizeof(T) == 4 ? NumberType::kFloat
                                              : NumberType::kDouble;

enum class By { kOnednn, kPanels, kPairs };

template <class T>
PackedMatrix pack(By by, const std::vector<T>& matrix, int64_t inputs, int64_t outputs,
                  WeightOrder order = WeightOrder::kOutputs, int threads = 1) {
  const ProductShape shape{kType<T>, inputs, outputs, order, threads};
  return PackedMatrix(by == By::kPanels  ? pack_in_panels(shape, matrix.data())
                      : by == By::kPairs ? pack_pairs(shape, matrix.data())
                                         : pack_for_onednn(shape, matrix.data()));
}

// Those that turn: this room's own.
template <class T>
std::vector<By> panels() {
  if (sizeof(T) == 2 && has_pair_kernels()) return {By::kPanels, By::kPairs};
  return {By::kPanels};
}

// oneDNN has nothing for double, or for a processor without AVX-512.
template <class T>
std::vector<By> ways() {
  std::vector<By> all = panels<T>();
  const T one = narrow<T>(1);
  if (pack_for_onednn({kType<T>, 1, 1, WeightOrder::kInputs, 1}, &one)) all.push_back(By::kOnednn);
  return all;
}

template <class T>
struct Problem {
  int64_t inputs, outputs, rows;
  WeightOrder order;
  std::vector<T> matrix, x, bias;
  std::vector<Wide<T>> add;

  Problem(int64_t inputs, int64_t outputs, int64_t rows, WeightOrder order = WeightOrder::kOutputs)
      : inputs(inputs),
        outputs(outputs),
        rows(rows),
        order(order),
        matrix(random_numbers<T>(size_t(inputs * outputs), 1)),
        x(random_numbers<T>(size_t(rows * inputs), 2)),
        bias(random_numbers<T>(size_t(outputs), 3)),
        add(random_numbers<Wide<T>>(size_t(rows * outputs), 4)) {}

  T weight(int64_t k, int64_t n) const {
    return matrix[size_t(order == WeightOrder::kOutputs ? n * inputs + k : k * outputs + n)];
  }

  PackedMatrix packed(By by, int threads = 1) const {
    return pack(by, matrix, inputs, outputs, order, threads);
  }

  // Whether y is the product but for the roundings of its sum and of the result.
  template <class Y>
  bool holds(const std::vector<Y>& y, const ProductExtra& extra) const {
    const double unit = std::is_same_v<Wide<T>, float> ? 0x1p-24 : 0x1p-53;
    const double last = sizeof(Y) == 2 ? 0x1p-8 : unit;  // half the last place, rounded to nearest
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t n = 0; n < outputs; ++n) {
        double sum = 0, size = 0;
        const auto plus = [&](double term) {
          sum += term;
          size += std::abs(term);
        };
        for (int64_t k = 0; k < inputs; ++k)
          plus(value(x[size_t(row * inputs + k)]) * value(weight(k, n)));
        if (extra.bias) plus(value(bias[size_t(n)]));
        if (extra.add) plus(value(add[size_t(row * outputs + n)]));
        const double error = std::abs(value(y[size_t(row * outputs + n)]) - sum);
        const double sum_error = double(inputs + 2) * unit * size;
        if (!(error <= sum_error + last * (std::abs(sum) + sum_error))) return false;
      }
    }
    return true;
  }
};

template <class Y, class T>
std::vector<Y> multiply(const PackedMatrix& matrix, const std::vector<T>& x, int64_t rows,
                        const ProductExtra& extra = {}) {
  std::vector<Y> y(size_t(rows * matrix.outputs()));
  matrix.multiply(x.data(), rows, y.data(), sizeof(Y) != sizeof(T), extra);
  return y;
}

template <class T>
class ProductOf : public testing::Test {};
using Types = testing::Types<bf16, float, double>;
TYPED_TEST_SUITE(ProductOf, Types);

TYPED_TEST(ProductOf, IsTheSumOfProducts) {
  using T = TypeParam;
  const int64_t shapes[][3] = {{1, 1, 1},    {3, 5, 2},     {16, 64, 17},   {101, 71, 65},
                               {130, 33, 5}, {64, 192, 80}, {257, 15, 130}, {31, 100, 300}};
  for (const auto& [inputs, outputs, rows] : shapes) {
    for (const WeightOrder order : {WeightOrder::kOutputs, WeightOrder::kInputs}) {
      Problem<T> problem(inputs, outputs, rows, order);
      for (const By by : ways<T>()) {
        const PackedMatrix matrix = problem.packed(by);
        EXPECT_GE(matrix.bytes(), problem.matrix.size() * sizeof(T));
        for (int extras = 0; extras < 4; ++extras) {
          const ProductExtra extra{extras & 1 ? problem.add.data() : nullptr,
                                   extras & 2 ? problem.bias.data() : nullptr};
          EXPECT_TRUE(problem.holds(multiply<T>(matrix, problem.x, rows, extra), extra))
              << matrix.implementation() << " " << inputs << " x " << outputs << " " << extras;
          EXPECT_TRUE(problem.holds(multiply<Wide<T>>(matrix, problem.x, rows, extra), extra));
        }
      }
    }
  }
}

// One packed matrix multiplies in both directions, with the bits of one packed for the other; sums
// of over 2,048 inputs are made in parts.
TYPED_TEST(ProductOf, TurnedIsPackedTheOtherWay) {
  using T = TypeParam;
  const int64_t shapes[][3] = {{1, 1, 1},    {3, 5, 2},     {64, 16, 17},   {71, 101, 65},
                               {33, 130, 5}, {32, 192, 80}, {15, 257, 500}, {45, 4201, 13}};
  for (const auto& [inputs, outputs, rows] : shapes) {
    Problem<T> problem(outputs, inputs, rows, WeightOrder::kInputs);  // x M of M [outputs, inputs]
    for (const By by : panels<T>())
      for (const int threads : {1, 2}) {
        const PackedMatrix turned = problem.packed(by, threads),
                           other = pack(by, problem.matrix, inputs, outputs, WeightOrder::kOutputs,
                                        threads);
        ASSERT_TRUE(other.turns());
        for (int extras = 0; extras < 4; ++extras) {
          const ProductExtra extra{extras & 1 ? problem.add.data() : nullptr,
                                   extras & 2 ? problem.bias.data() : nullptr};
          std::vector<T> narrow(size_t(rows * inputs));
          std::vector<Wide<T>> wide(narrow.size());
          other.multiply_turned(problem.x.data(), rows, narrow.data(), false, extra);
          other.multiply_turned(problem.x.data(), rows, wide.data(), true, extra);
          EXPECT_TRUE(problem.holds(wide, extra)) << inputs << " x " << outputs;
          const auto narrow_too = multiply<T>(turned, problem.x, rows, extra);
          const auto wide_too = multiply<Wide<T>>(turned, problem.x, rows, extra);
          EXPECT_TRUE(same_bits(narrow.data(), narrow_too.data(), narrow.size()))
              << other.implementation() << " " << inputs << " x " << outputs;
          EXPECT_TRUE(same_bits(wide.data(), wide_too.data(), wide.size()))
              << other.implementation() << " " << inputs << " x " << outputs;
        }
      }
  }
}

TYPED_TEST(ProductOf, GivesSingleOutputs) {
  using T = TypeParam;
  const Problem<T> problem(71, 101, 1);
  for (const By by : panels<T>()) {
    const PackedMatrix matrix = problem.packed(by);
    for (const int64_t n : {0, 31, 32, 100}) {
      std::vector<T> entries(71);
      matrix.unpack_output(n, entries.data());
      EXPECT_TRUE(same_bits(entries.data(), &problem.matrix[size_t(n * 71)], entries.size()));
    }
  }
}

TYPED_TEST(ProductOf, OfAnotherMatrixIsFoundOut) {
  using T = TypeParam;
  for (const By by : ways<T>()) {
    Problem<T> problem(101, 71, 3);
    const PackedMatrix matrix = problem.packed(by);
    std::swap(problem.matrix[5], problem.matrix[6]);
    EXPECT_FALSE(problem.holds(multiply<T>(matrix, problem.x, 3), {}));
    std::swap(problem.matrix[5], problem.matrix[6]);
    const ProductExtra extra{problem.add.data(), nullptr};
    EXPECT_FALSE(problem.holds(multiply<T>(matrix, problem.x, 3), extra));
  }
}

// Every row alone, in 1 thread, is what it is in batches of any size, at any place, in any memory.
template <class T, class Y>
void expect_row_invariant(int64_t inputs, int64_t outputs, By by,
                          const std::vector<int64_t>& batches) {
  constexpr int64_t kRows = 40;  // that differ
  const int64_t most = *std::max_element(batches.begin(), batches.end());
  Problem<T> problem(inputs, outputs, kRows);
  std::vector<T> x;
  std::vector<Wide<T>> add;
  for (int64_t row = 0; row < most + kRows; ++row) {
    const int64_t place = row % kRows;
    x.insert(x.end(), &problem.x[size_t(place * inputs)],
             &problem.x[size_t(place * inputs)] + inputs);
    add.insert(add.end(), &problem.add[size_t(place * outputs)],
               &problem.add[size_t(place * outputs)] + outputs);
  }
  const bool wide = sizeof(Y) != sizeof(T);
  std::vector<Y> alone(size_t(kRows * outputs));
  const PackedMatrix one = problem.packed(by);
  for (int64_t row = 0; row < kRows; ++row) {
    one.multiply(&x[size_t(row * inputs)], 1, &alone[size_t(row * outputs)], wide,
                 {&add[size_t(row * outputs)], problem.bias.data()});
  }
  for (const int threads : {1, 2, 3, 7}) {
    const PackedMatrix matrix = problem.packed(by, threads);
    for (const int64_t rows : batches) {
      const int64_t first = 1 + rows % (kRows - 1);
      std::vector<Y> y(size_t(rows * outputs) + 1);
      std::vector<T> moved(x.begin() + first * inputs - 1, x.begin() + (first + rows) * inputs);
      matrix.multiply(moved.data() + 1, rows, y.data() + 1, wide,
                      {&add[size_t(first * outputs)], problem.bias.data()});
      for (int64_t row = 0; row < rows; ++row) {
        ASSERT_TRUE(same_bits(&y[size_t(row * outputs) + 1],
                              &alone[size_t((first + row) % kRows * outputs)], size_t(outputs)))
            << matrix.implementation() << ", " << inputs << " x " << outputs << ", row " << row
            << " of " << rows << ", threads " << threads;
      }
    }
  }
}

TYPED_TEST(ProductOf, OfARowHasTheSameBitsInEveryBatch) {
  using T = TypeParam;
  std::vector<int64_t> every = {255, 256, 257, 511, 1000};
  for (int64_t rows = 1; rows <= 81; ++rows) every.push_back(rows);
  const std::vector<int64_t> some = {1, 2, 3, 4, 5, 8, 15, 16, 17, 48, 63, 64, 65, 256, 300};
  for (const By by : ways<T>()) {
    if (by == By::kPanels && kernels() == Kernels::kPlain) continue;  // nothing to find, and slow
    if (sizeof(T) == 8) {
      expect_row_invariant<T, T>(17, 33, by, some);
      continue;
    }
    expect_row_invariant<T, T>(101, 71, by, every);
    expect_row_invariant<T, Wide<T>>(64, 96, by, every);
    expect_row_invariant<T, T>(576, 192, by, some);
    expect_row_invariant<T, Wide<T>>(1536, 576, by, some);
    expect_row_invariant<T, T>(5000, 64, by, some);  // where one would want to divide the sum
  }
}

TEST(Product, OfALargeMatrixHasTheSameBitsInEveryBatch) {
  for (const By by : ways<bf16>()) {
    if (by == By::kPanels && kernels() == Kernels::kPlain) continue;
    expect_row_invariant<bf16, float>(576, 8192, by, {1, 2, 17, 33, 63, 65});
  }
}

TYPED_TEST(ProductOf, AddendOfZerosChangesNoBit) {
  using T = TypeParam;
  for (const By by : ways<T>()) {
    const Problem<T> problem(101, 71, 30);
    const PackedMatrix matrix = problem.packed(by);
    const std::vector<Wide<T>> zeros(problem.add.size());
    for (const void* bias :
         {static_cast<const void*>(nullptr), static_cast<const void*>(problem.bias.data())}) {
      const auto narrow_without = multiply<T>(matrix, problem.x, 30, {nullptr, bias});
      const auto narrow_with = multiply<T>(matrix, problem.x, 30, {zeros.data(), bias});
      EXPECT_TRUE(same_bits(narrow_without.data(), narrow_with.data(), zeros.size()));
      const auto wide_without = multiply<Wide<T>>(matrix, problem.x, 30, {nullptr, bias});
      const auto wide_with = multiply<Wide<T>>(matrix, problem.x, 30, {zeros.data(), bias});
      EXPECT_TRUE(same_bits(wide_without.data(), wide_with.data(), zeros.size()));
      const auto other = multiply<T>(matrix, problem.x, 30, {problem.add.data(), bias});
      EXPECT_FALSE(same_bits(narrow_without.data(), other.data(), zeros.size()));
    }
  }
}

TYPED_TEST(ProductOf, TakesTheBiasBeforeTheAddend) {
  using T = TypeParam;
  using W = Wide<T>;
  const std::vector<T> one = {narrow<T>(1)};
  const W large = std::is_same_v<W, float> ? W(0x1p24) : W(0x1p53);
  for (const By by : ways<T>()) {
    const PackedMatrix matrix = pack(by, one, 1, 1);
    const ProductExtra extra{&large, one.data()};
    EXPECT_EQ(multiply<W>(matrix, one, 1, extra)[0], large + 2);  // 1 + large is large
  }
}

// With a matrix of zeros, what is rounded is known.
TEST(Product, RoundsOnceToNearestEven) {
  const std::vector<bf16> zero(64), x(1);
  std::vector<float> add;
  for (uint32_t high = 0x3f80; add.size() < 60; ++high) {
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      add.push_back(std::bit_cast<float>(high << 16 | low));
  }
  add.insert(add.end(), {std::numeric_limits<float>::infinity(), -0x1.ffp127f, -1.00390625f, 0});
  for (const By by : ways<bf16>()) {
    const PackedMatrix matrix = pack(by, zero, 1, 64);
    const auto y = multiply<bf16>(matrix, x, 1, {add.data(), nullptr});
    for (size_t i = 0; i < add.size(); ++i) {
      EXPECT_EQ(y[i].bits, to_bf16(add[i]).bits) << matrix.implementation() << " " << add[i];
    }
    const Problem<bf16> problem(576, 71, 50);
    const PackedMatrix other = problem.packed(by);
    const ProductExtra extra{problem.add.data(), problem.bias.data()};
    const auto rounded = multiply<bf16>(other, problem.x, 50, extra);
    const auto wide = multiply<float>(other, problem.x, 50, extra);
    for (size_t i = 0; i < wide.size(); ++i) ASSERT_EQ(rounded[i].bits, to_bf16(wide[i]).bits);
  }
}

TYPED_TEST(ProductOf, NotANumberStaysInItsRowAndColumn) {
  using T = TypeParam;
  for (const By by : ways<T>()) {
    Problem<T> problem(70, 71, 20);
    const auto clean = multiply<T>(problem.packed(by), problem.x, 20);
    problem.x[3 * 70 + 69] = narrow<T>(std::numeric_limits<Wide<T>>::quiet_NaN());
    problem.x[7 * 70] = narrow<T>(std::numeric_limits<Wide<T>>::infinity());
    problem.matrix[5 * 70 + 69] = narrow<T>(std::numeric_limits<Wide<T>>::quiet_NaN());
    const auto y = multiply<T>(problem.packed(by), problem.x, 20);
    for (int64_t row = 0; row < 20; ++row) {
      for (int64_t n = 0; n < 71; ++n) {
        const size_t i = size_t(row * 71 + n);
        if (row == 3 || n == 5)
          EXPECT_TRUE(std::isnan(value(y[i])));
        else if (row == 7)
          EXPECT_TRUE(std::isinf(value(y[i])));
        else
          EXPECT_TRUE(same_bits(&y[i], &clean[i], 1));
      }
    }
  }
}

TYPED_TEST(ProductOf, UnpacksWhatWasPacked) {
  using T = TypeParam;
  for (const auto& [inputs, outputs] : {std::pair{1, 1}, {101, 71}, {64, 192}, {33, 130}}) {
    std::vector<T> matrix(size_t(inputs * outputs));
    std::mt19937_64 engine(7);
    for (T& x : matrix) {
      const uint64_t bits = engine();  // NaNs, too
      std::memcpy(&x, &bits, sizeof(T));
    }
    for (const WeightOrder order : {WeightOrder::kOutputs, WeightOrder::kInputs}) {
      for (const By by : ways<T>()) {
        for (const int threads : {1, 2}) {
          std::vector<T> back(matrix.size());
          pack(by, matrix, inputs, outputs, order, threads).unpack(back.data());
          EXPECT_TRUE(same_bits(matrix.data(), back.data(), matrix.size()));
        }
      }
    }
  }
}

template <class T>
void expect_equal_panels() {
  const Kernels before = kernels();
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 250}) {
    const Problem<T> problem(101, 71, rows);
    const PackedMatrix matrix = problem.packed(By::kPanels, 2);
    const ProductExtra extra{problem.add.data(), problem.bias.data()};
    set_kernels(Kernels::kPlain);
    const auto plain = multiply<Wide<T>>(matrix, problem.x, rows, extra);
    for (const Kernels which : {Kernels::kAvx2, Kernels::kAvx512}) {
      if (!has_kernels(which)) continue;
      set_kernels(which);
      const auto y = multiply<Wide<T>>(matrix, problem.x, rows, extra);
      EXPECT_TRUE(same_bits(plain.data(), y.data(), y.size())) << rows << " " << int(which);
    }
  }
  set_kernels(before);
}

TEST(Product, OfPanelsHasTheSameBitsByAllInstructions) {
  expect_equal_panels<bf16>();
  expect_equal_panels<float>();
}

TEST(Product, IsChosenByTheProcessor) {
  const auto implementation = [](NumberType type) {
    const double zero = 0;
    return PackedMatrix(type, &zero, 1, 1, WeightOrder::kInputs, 1).implementation();
  };
  EXPECT_EQ(implementation(NumberType::kFloat), "panels");
  EXPECT_EQ(implementation(NumberType::kDouble), "panels");
  const std::string bf16 = implementation(NumberType::kBf16);
  if (has_matrix_instructions())
    EXPECT_TRUE(bf16.starts_with("brg:") && bf16.ends_with("amx_bf16")) << bf16;
  else
    EXPECT_EQ(bf16, has_pair_kernels() ? "panels:avx512_bf16" : "panels");
}

TEST(Product, HasTheSameBitsFromManyThreadsAtOnce) {
  for (const By by : ways<bf16>()) {
    const Problem<bf16> problem(130, 200, 70);
    const auto truth = multiply<bf16>(problem.packed(by), problem.x, 70);
    for (const int threads : {1, 2}) {
      const PackedMatrix matrix = problem.packed(by, threads);  // no product is made as yet
      std::vector<std::thread> callers;
      std::vector<int> equal(8);
      for (int caller = 0; caller < 8; ++caller) {
        callers.emplace_back([&, caller] {
          bool all = true;
          for (int64_t rows = 70 - caller; rows > 0; rows -= 9) {
            const auto y = multiply<bf16>(matrix, problem.x, rows);
            all = all && same_bits(y.data(), truth.data(), y.size());
          }
          equal[size_t(caller)] = all;
        });
      }
      for (std::thread& caller : callers) caller.join();
      EXPECT_EQ(equal, std::vector<int>(8, 1));
    }
  }
}

// oneDNN alone would leave out what it had planned for threads that do not come.
TEST(Product, IsWholeWhereOpenMpGivesFewerThreads) {
  for (const By by : ways<bf16>()) {
    const Problem<bf16> problem(130, 600, 70);
    const auto truth = multiply<bf16>(problem.packed(by), problem.x, 70);
    const PackedMatrix matrix = problem.packed(by, 6);
    const auto whole = [&] {
      const auto y = multiply<bf16>(matrix, problem.x, 70);
      return same_bits(y.data(), truth.data(), y.size());
    };
    EXPECT_TRUE(whole());
    int inside[2] = {true, true};
#pragma omp parallel num_threads(2)
    inside[omp_get_thread_num()] = whole();
    EXPECT_TRUE(inside[0] && inside[1]);
    const int threads = omp_get_max_threads();
    omp_set_dynamic(1);
    omp_set_num_threads(1);
    EXPECT_TRUE(whole());
    EXPECT_EQ(omp_get_max_threads(), 1);
    EXPECT_TRUE(omp_get_dynamic());
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
  }
}

TEST(Product, MovesAndOutlivesOthersOfItsShape) {
  const Problem<bf16> problem(64, 96, 5);
  PackedMatrix a(NumberType::kBf16, problem.matrix.data(), 64, 96, WeightOrder::kOutputs, 1);
  const auto truth = multiply<bf16>(a, problem.x, 5);
  PackedMatrix b = std::move(a);
  {
    PackedMatrix other(NumberType::kBf16, problem.matrix.data(), 64, 96, WeightOrder::kOutputs, 1);
    b = std::move(other);
  }
  const auto y = multiply<bf16>(b, problem.x, 5);
  EXPECT_TRUE(same_bits(truth.data(), y.data(), y.size()));
  b.multiply(nullptr, 0, nullptr, false);
}

TEST(Product, RefusesEmptyShapes) {
  const float one = 1;
  const auto make = [&](int64_t inputs, int64_t outputs, int threads) {
    PackedMatrix(NumberType::kFloat, &one, inputs, outputs, WeightOrder::kInputs, threads);
  };
  make(1, 1, 1);
  EXPECT_THROW(make(0, 1, 1), std::invalid_argument);
  EXPECT_THROW(make(1, 0, 1), std::invalid_argument);
  EXPECT_THROW(make(1, 1, 0), std::invalid_argument);
}

// What the columns of Q rest on (worker/model/q_columns.h): inputs that are zero in every row may
// be left out in blocks of 32, and outputs alone are what they are among others.
TYPED_TEST(ProductOf, BlocksOfZerosMayBeLeftOutAndSingleOutputsStay) {
  using T = TypeParam;
  using Y = Wide<T>;
  constexpr int64_t kBlock = 32;
  // More than 2,048 inputs are summed in parts.
  const int64_t cases[][4] = {
      {576, 0, 2, 71}, {576, 16, 2, 576}, {1536, 5, 3, 33}, {2560, 60, 20, 40}};
  for (const auto& [inputs, first, blocks, outputs] : cases)
    for (const By by : panels<T>())
      for (const WeightOrder order : {WeightOrder::kOutputs, WeightOrder::kInputs}) {
        Problem<T> all(inputs, outputs, 9, order);
        Problem<T> some(blocks * kBlock, outputs, 9, order);
        // Those far from zero are few: zeros come with both signs.
        const auto kept = [&](int64_t k) {
          return k / kBlock >= first && k / kBlock < first + blocks;
        };
        for (int64_t row = 0; row < all.rows; ++row)
          for (int64_t k = 0; k < inputs; ++k) {
            T& x = all.x[size_t(row * inputs + k)];
            if (kept(k))
              some.x[size_t(row * some.inputs + k - first * kBlock)] = x;
            else
              x = narrow<T>(value(x) < 0 ? Wide<T>(-0.0) : Wide<T>(0));
          }
        for (int64_t n = 0; n < outputs; ++n)
          for (int64_t k = 0; k < some.inputs; ++k) {
            const int64_t place =
                order == WeightOrder::kOutputs ? n * some.inputs + k : k * outputs + n;
            some.matrix[size_t(place)] = all.weight(first * kBlock + k, n);
          }
        some.add = all.add;
        const ProductExtra extra{all.add.data(), nullptr};
        const PackedMatrix wide = all.packed(by), thin = some.packed(by);
        const std::vector<Y> truth = multiply<Y>(wide, all.x, 9);
        const std::vector<T> added = multiply<T>(wide, all.x, 9, extra);
        EXPECT_TRUE(same_bits(multiply<Y>(thin, some.x, 9).data(), truth.data(), truth.size()))
            << inputs;
        EXPECT_TRUE(
            same_bits(multiply<T>(thin, some.x, 9, extra).data(), added.data(), added.size()))
            << inputs;
        // Control: of what is not zero nothing may be left out.
        std::vector<T> other = all.x;
        other[size_t((first + blocks) % (inputs / kBlock) * kBlock)] = narrow<T>(Wide<T>(1));
        EXPECT_FALSE(same_bits(multiply<Y>(wide, other, 9).data(), truth.data(), truth.size()));
        // Outputs alone: the last 20.
        Problem<T> last(inputs, 20, 9, order);
        last.x = random_numbers<T>(last.x.size(), 7);
        for (int64_t n = 0; n < 20; ++n)
          for (int64_t k = 0; k < inputs; ++k)
            last.matrix[size_t(order == WeightOrder::kOutputs ? n * inputs + k : k * 20 + n)] =
                all.weight(k, outputs - 20 + n);
        const std::vector<Y> of_all = multiply<Y>(wide, last.x, 9);
        const std::vector<Y> of_last = multiply<Y>(last.packed(by), last.x, 9);
        for (int64_t row = 0; row < 9; ++row)
          for (int64_t n = 0; n < 20; ++n)
            EXPECT_TRUE(same_bits(&of_last[size_t(row * 20 + n)],
                                  &of_all[size_t(row * outputs + outputs - 20 + n)], 1));
      }
}

}  // namespace
}  // namespace svfleet
