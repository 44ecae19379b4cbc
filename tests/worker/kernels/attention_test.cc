#include "worker/kernels/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/kernels/attention_fixture.h"

namespace svfleet {
namespace {

class Attention : public ::testing::Test {
 protected:
  void TearDown() override { set_kernels(before_); }

 private:
  Kernels before_ = kernels();
};

// What attend gives, in double.
struct Truth {
  std::vector<double> out, log_sum;
};

// The definition for one row.
template <class T>
Truth truth(Sequences<T>& sequences, const Asked<T>& asked) {
  const AttentionShape& shape = sequences.shape;
  const int dim = shape.head_dim;
  Truth result{std::vector<double>(shape.heads * dim), std::vector<double>(shape.heads)};
  for (int head = 0; head < shape.heads; ++head) {
    const int kv_head = head / (shape.heads / shape.kv_heads);
    std::vector<double> score(asked.keys, -INFINITY);
    double max = -INFINITY, total = 0;
    const int64_t first = shape.window ? std::max<int64_t>(0, asked.keys - shape.window) : 0;
    for (int64_t j = first; j < asked.keys; ++j) {
      score[j] = 0;
      for (int d = 0; d < dim; ++d)
        score[j] += double(widen(asked.q[head * dim + d])) *
                    widen(sequences.key(asked.sequence, j, kv_head, d));
      score[j] *= shape.scale;
      if (shape.soft_cap > 0) score[j] = shape.soft_cap * std::tanh(score[j] / shape.soft_cap);
      max = std::max(max, score[j]);
    }
    for (double s : score) total += std::exp(s - max);
    for (int64_t j = 0; j < asked.keys; ++j)
      for (int d = 0; d < dim; ++d)
        result.out[head * dim + d] += std::exp(score[j] - max) / total *
                                      widen(sequences.value(asked.sequence, j, kv_head, d));
    result.log_sum[head] = max + std::log(total);
  }
  return result;
}

// The largest |a - b| / (1 + |b|).
template <class A>
double distance(const std::vector<A>& a, const std::vector<double>& b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < b.size(); ++i) {
    const double error = std::abs(widen(a[i]) - b[i]) / (1 + std::abs(b[i]));
    if (!(error <= largest)) largest = error;  // a NaN stays
  }
  return largest;
}

template <class T>
void expect_truth(const Asked<T>& asked, const Truth& truth, double out_within,
                  double log_sum_within) {
  EXPECT_LT(distance(asked.out, truth.out), out_within) << asked.keys << " keys";
  EXPECT_LT(distance(asked.log_sum, truth.log_sum), log_sum_within) << asked.keys << " keys";
}

// Three sequences, of which two share two pages, and rows of many lengths.
template <class T>
std::vector<Asked<T>> many_rows(Sequences<T>& sequences, std::mt19937& random) {
  sequences.add(150, random);
  sequences.add(100, random, 0, 2);
  sequences.add(31, random);
  std::vector<Asked<T>> asked;
  for (int64_t keys : {150, 149, 128, 97, 96, 95, 65, 64, 33, 32, 31, 17, 16, 15, 2, 1})
    asked.push_back(ask<T>(sequences.shape, 0, keys, random));
  for (int64_t keys : {100, 99, 70, 98, 66, 65, 3})
    asked.push_back(ask<T>(sequences.shape, 1, keys, random));
  for (int64_t keys : {31, 1, 30, 31}) asked.push_back(ask<T>(sequences.shape, 2, keys, random));
  return asked;
}

template <class T>
void expect_truth_in_all_shapes(double out_within, double log_sum_within) {
  for (const AttentionShape& shape : kShapes) {
    std::mt19937 random(shape.head_dim);
    Sequences<T> sequences(shape);
    auto asked = many_rows(sequences, random);
    std::vector<Truth> expected;
    for (const Asked<T>& a : asked) expected.push_back(truth(sequences, a));
    for (Kernels which : all_kernels()) {
      SCOPED_TRACE(name_of(which) + " head_dim " + std::to_string(shape.head_dim));
      set_kernels(which);
      attend_all(sequences, asked);
      for (size_t i = 0; i < asked.size(); ++i)
        expect_truth(asked[i], expected[i], out_within, log_sum_within);
    }
  }
}

TEST_F(Attention, IsTheDefinition) {
  expect_truth_in_all_shapes<bf16>(1 / 256.0 + 1e-5, 2e-6);
  expect_truth_in_all_shapes<float>(2e-6, 1e-6);
  expect_truth_in_all_shapes<double>(1e-14, 1e-14);
}

template <class T>
void expect_same(const std::vector<Asked<T>>& a, const std::vector<Asked<T>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(same_bits(a[i].out, b[i].out)) << "row " << i;
    EXPECT_TRUE(same_bits(a[i].log_sum, b[i].log_sum)) << "row " << i;
  }
}

// Each row alone with one thread and the plain version; then all rows with every version.
template <class T>
void expect_same_bits_everywhere(const AttentionShape& shape) {
  std::mt19937 random(7);
  Sequences<T> sequences(shape);
  const auto asked = many_rows(sequences, random);
  std::vector<Asked<T>> alone = asked;
  set_kernels(Kernels::kPlain);
  for (Asked<T>& a : alone) {
    std::vector<Asked<T>> one = {a};
    attend_all(sequences, one);
    a = one[0];
  }
  for (Kernels which : all_kernels())
    for (int threads : {1, 3})
      for (int shift : {0, 1, 7}) {
        SCOPED_TRACE(name_of(which) + " threads " + std::to_string(threads) + " shift " +
                     std::to_string(shift) + " head_dim " + std::to_string(shape.head_dim));
        random.seed(7);
        Sequences<T> moved(shape, shift);
        auto again = many_rows(moved, random);
        set_kernels(which);
        attend_all(moved, again, threads);
        expect_same(again, alone);
        std::reverse(again.begin(), again.end());
        attend_all(moved, again, threads);
        std::reverse(again.begin(), again.end());
        expect_same(again, alone);
      }
}

TEST_F(Attention, GivesARowTheSameBitsInAnyCall) {
  for (const AttentionShape& shape : kShapes) {
    expect_same_bits_everywhere<bf16>(shape);
    expect_same_bits_everywhere<float>(shape);
  }
}

// Control for the tests above: a little of one number is enough.
TEST_F(Attention, NoticesALittleOfOneKey) {
  std::mt19937 random(7);
  Sequences<float> sequences(shape_of(2, 1, 64));
  sequences.add(40, random);
  std::vector<Asked<float>> asked = {ask<float>(sequences.shape, 0, 40, random)};
  attend_all(sequences, asked);
  const auto before = asked[0];
  float& x = sequences.key(0, 39, 0, 63);
  x *= 1.0001f;
  attend_all(sequences, asked);
  EXPECT_FALSE(same_bits(asked[0].log_sum, before.log_sum) && same_bits(asked[0].out, before.out));
}

TEST_F(Attention, IsLargeOrSmallWithoutOverflow) {
  for (Kernels which : all_kernels()) {
    set_kernels(which);
    std::mt19937 random(3);
    AttentionShape shape = shape_of(2, 1, 64);
    shape.scale = 300;  // scores of thousands: one key takes all, the others flush to 0
    Sequences<float> sequences(shape);
    sequences.add(70, random);
    std::vector<Asked<float>> asked = {ask<float>(shape, 0, 70, random)};
    attend_all(sequences, asked);
    expect_truth(asked[0], truth(sequences, asked[0]), 1e-5, 1e-6);
    for (double huge : {1e-30, -1e-30, 1e15, -1e15}) {
      asked[0].q.assign(asked[0].q.size(), huge);
      attend_all(sequences, asked);
      for (float x : asked[0].out) EXPECT_TRUE(std::isfinite(x)) << huge;
    }
  }
}

template <class T>
void expect_nan(const std::vector<T>& x, int begin, int end, bool nan) {
  for (int i = begin; i < end; ++i) EXPECT_EQ(std::isnan(widen(x[i])), nan) << i;
}

TEST_F(Attention, MakesWhatIsNotFiniteNan) {
  for (Kernels which : all_kernels())
    for (float bad : {NAN, INFINITY, -INFINITY})
      for (int64_t at : {0, 1, 31, 32, 69}) {
        SCOPED_TRACE(name_of(which) + " " + std::to_string(bad) + " " + std::to_string(at));
        set_kernels(which);
        std::mt19937 random(3);
        Sequences<bf16> sequences(shape_of(4, 2, 66));
        sequences.add(70, random);
        std::vector<Asked<bf16>> asked = {ask<bf16>(sequences.shape, 0, 70, random),
                                          ask<bf16>(sequences.shape, 0, at, random)};
        sequences.key(0, at, 1, 65) = number<bf16>(bad);
        attend_all(sequences, asked);
        expect_nan(asked[0].out, 0, 2 * 66, false);
        expect_nan(asked[0].out, 2 * 66, 4 * 66, true);
        expect_nan(asked[0].log_sum, 2, 4, true);
        expect_nan(asked[1].out, 0, 4 * 66, false);  // which does not reach it
      }
}

TEST_F(Attention, MakesABadQueryNanInItsHeadAlone) {
  for (Kernels which : all_kernels())
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      set_kernels(which);
      std::mt19937 random(3);
      Sequences<float> sequences(shape_of(4, 2, 64));
      sequences.add(70, random);
      std::vector<Asked<float>> asked = {ask<float>(sequences.shape, 0, 70, random)};
      asked[0].q[64] = bad;
      attend_all(sequences, asked);
      expect_nan(asked[0].out, 0, 64, false);
      expect_nan(asked[0].out, 64, 128, true);
      expect_nan(asked[0].out, 128, 256, false);
    }
}

// What a window leaves out may hold anything, and is not looked at.
TEST_F(Attention, SeesNothingBeforeItsWindow) {
  for (Kernels which : all_kernels()) {
    set_kernels(which);
    std::mt19937 random(3);
    Sequences<bf16> sequences(shape_of(4, 2, 66, 0, 20));
    sequences.add(100, random);
    std::vector<Asked<bf16>> asked = {ask<bf16>(sequences.shape, 0, 100, random),
                                      ask<bf16>(sequences.shape, 0, 90, random)};
    attend_all(sequences, asked);
    const std::vector<Asked<bf16>> before = asked;
    for (int64_t j = 0; j < 70; ++j)
      for (int kv_head : {0, 1})
        for (int d = 0; d < 66; ++d)
          sequences.key(0, j, kv_head, d) = sequences.value(0, j, kv_head, d) = number<bf16>(NAN);
    attend_all(sequences, asked);
    expect_same(asked, before);
    sequences.value(0, 70, 0, 0) = number<bf16>(NAN);  // control: the first that the second sees
    attend_all(sequences, asked);
    EXPECT_TRUE(std::isnan(widen(asked[1].out[0])));
    EXPECT_FALSE(std::isnan(widen(asked[0].out[0])));
  }
}

TEST_F(Attention, OfNothingIsNothing) {
  for (Kernels which : all_kernels()) {
    set_kernels(which);
    std::mt19937 random(3);
    Sequences<float> sequences(shape_of(2, 1, 64));
    sequences.add(0, random);
    std::vector<Asked<float>> asked = {ask<float>(sequences.shape, 0, 0, random)};
    asked[0].out.assign(128, 5);
    attend_all(sequences, asked);
    EXPECT_THAT(asked[0].out, ::testing::Each(0));
    EXPECT_THAT(asked[0].log_sum, ::testing::Each(-INFINITY));
    asked.clear();
    attend_all(sequences, asked);
  }
}

}  // namespace
}  // namespace svfleet
