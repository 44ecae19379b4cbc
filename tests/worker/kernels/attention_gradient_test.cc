#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/worker/kernels/attention_fixture.h"
#include "worker/kernels/attention.h"

namespace svfleet {
namespace {

class AttentionGradient : public ::testing::Test {
 protected:
  void TearDown() override { set_kernels(before_); }

 private:
  Kernels before_ = kernels();
};

// A page's gradient, by the page.
template <class W>
using Gradients = std::map<const void*, std::vector<W>>;

template <class T>
Gradients<Wide<T>> run_gradient(Sequences<T>& sequences, std::vector<Asked<T>>& asked,
                                int threads = 1) {
  Gradients<Wide<T>> gradients;
  std::vector<std::vector<Wide<T>*>> lists;
  for (const auto& pages : sequences.pages) {
    lists.emplace_back();
    for (T* page : pages) {
      auto& gradient = gradients[page];
      gradient.resize(page_elements(sequences.shape));
      lists.back().push_back(gradient.data());
    }
  }
  std::vector<AttentionGradientRow<T>> rows;
  for (Asked<T>& a : asked)
    rows.push_back({a.q.data(), a.out.data(), a.log_sum.data(), a.d_out.data(),
                    sequences.pages[a.sequence].data(), lists[a.sequence].data(), a.keys,
                    a.d_q.data()});
  attend_gradient<T>(sequences.shape, rows, threads);
  return gradients;
}

// The equations of attention.h in double, for one row's head; `out` as it was given.
template <class T>
void add_truth(Sequences<T>& sequences, const Asked<T>& asked, int head, std::vector<double>& d_q,
               Gradients<double>& gradients) {
  const AttentionShape& shape = sequences.shape;
  const int dim = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads),
            s = asked.sequence;
  const auto q = [&](int d) { return double(widen(asked.q[head * dim + d])); };
  const auto d_out = [&](int d) { return double(widen(asked.d_out[head * dim + d])); };
  double d_out_out = 0;
  for (int d = 0; d < dim; ++d) d_out_out += d_out(d) * widen(asked.out[head * dim + d]);
  d_q.assign(dim, 0);
  const int64_t first = shape.window ? std::max<int64_t>(0, asked.keys - shape.window) : 0;
  for (int64_t j = first; j < asked.keys; ++j) {
    double score = 0, d_p = 0;
    for (int d = 0; d < dim; ++d) {
      score += q(d) * widen(sequences.key(s, j, kv_head, d));
      d_p += d_out(d) * widen(sequences.value(s, j, kv_head, d));
    }
    const double t = shape.soft_cap > 0 ? std::tanh(score * shape.scale / shape.soft_cap) : 0;
    const double s_j = shape.soft_cap > 0 ? shape.soft_cap * t : score * shape.scale;
    const double p = std::exp(s_j - asked.log_sum[head]);
    const double d_score = shape.scale * p * (d_p - d_out_out) * (1 - t * t);
    auto& gradient = gradients[sequences.pages[s][j / kPageTokens]];
    gradient.resize(page_elements(shape));
    for (int d = 0; d < dim; ++d) {
      d_q[d] += d_score * widen(sequences.key(s, j, kv_head, d));
      gradient[sequences.key_at(j, kv_head, d)] += d_score * q(d);
      gradient[sequences.value_at(j, kv_head, d)] += p * d_out(d);
    }
  }
}

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
  for (int64_t keys : {31, 1, 30, 31, 0}) asked.push_back(ask<T>(sequences.shape, 2, keys, random));
  attend_all(sequences, asked);
  return asked;
}

// The largest |a - b| / (1 + |b|).
template <class A>
double distance(const std::vector<A>& a, const std::vector<double>& b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < b.size(); ++i) {
    const double error = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    if (!(error <= largest)) largest = error;  // a NaN stays
  }
  return largest;
}

template <class T>
void expect_equations(const AttentionShape& shape, double within) {
  std::mt19937 random(shape.head_dim);
  Sequences<T> sequences(shape);
  auto asked = many_rows(sequences, random);
  Gradients<double> truth;
  std::vector<std::vector<double>> d_q(asked.size());
  for (size_t i = 0; i < asked.size(); ++i)
    for (int head = 0; head < shape.heads; ++head) {
      std::vector<double> of_head;
      add_truth(sequences, asked[i], head, of_head, truth);
      d_q[i].insert(d_q[i].end(), of_head.begin(), of_head.end());
    }
  for (Kernels which : all_kernels()) {
    SCOPED_TRACE(name_of(which) + " head_dim " + std::to_string(shape.head_dim));
    set_kernels(which);
    const auto gradients = run_gradient(sequences, asked);
    for (size_t i = 0; i < asked.size(); ++i) EXPECT_LT(distance(asked[i].d_q, d_q[i]), within);
    for (const auto& [page, expected] : truth)
      EXPECT_LT(distance(gradients.at(page), expected), within);
  }
}

TEST_F(AttentionGradient, IsTheEquations) {
  for (const AttentionShape& shape : kShapes) {
    expect_equations<bf16>(shape, 1e-5);
    expect_equations<float>(shape, 1e-5);
    expect_equations<double>(shape, 1e-13);
  }
}

double loss(Sequences<double>& sequences, std::vector<Asked<double>>& asked) {
  attend_all(sequences, asked);
  double sum = 0;
  for (const Asked<double>& a : asked)
    for (size_t i = 0; i < a.out.size(); ++i) sum += a.out[i] * a.d_out[i];
  return sum;
}

// The slope of sum out * d_out over one number.
double slope(Sequences<double>& sequences, std::vector<Asked<double>>& asked, double& x) {
  const double step = 1e-5, before = x;
  x = before + step;
  const double above = loss(sequences, asked);
  x = before - step;
  const double below = loss(sequences, asked);
  x = before;
  return (above - below) / (2 * step);
}

void expect_slope(const AttentionShape& shape) {
  std::mt19937 random(5);
  Sequences<double> sequences(shape);
  sequences.add(70, random);
  sequences.add(50, random, 0, 1);
  std::vector<Asked<double>> asked;
  asked.push_back(ask<double>(sequences.shape, 0, 70, random));
  asked.push_back(ask<double>(sequences.shape, 1, 50, random));
  asked.push_back(ask<double>(sequences.shape, 0, 20, random));
  attend_all(sequences, asked);
  const auto gradients = run_gradient(sequences, asked);
  double largest = 0;
  for (int i = 0; i < 24; ++i) {
    EXPECT_NEAR(slope(sequences, asked, asked[1].q[i]), asked[1].d_q[i], 1e-8);
    largest = std::max(largest, std::abs(asked[1].d_q[i]));
  }
  for (int64_t j : {0, 19, 20, 31, 32, 69})
    for (int kv_head : {0, 1})
      for (int d : {0, 5}) {
        const auto& gradient = gradients.at(sequences.pages[0][j / kPageTokens]);
        EXPECT_NEAR(slope(sequences, asked, sequences.key(0, j, kv_head, d)),
                    gradient[sequences.key_at(j, kv_head, d)], 1e-8);
        EXPECT_NEAR(slope(sequences, asked, sequences.value(0, j, kv_head, d)),
                    gradient[sequences.value_at(j, kv_head, d)], 1e-8);
      }
  EXPECT_GT(largest, 1e-2);  // or all of it would hold for zeros
}

TEST_F(AttentionGradient, IsTheSlope) {
  expect_slope(shape_of(4, 2, 6));
  expect_slope(shape_of(4, 2, 6, 0.8, 25));
}

template <class T>
void expect_same(Sequences<T>& a_of, const std::vector<Asked<T>>& a, Gradients<Wide<T>>& a_pages,
                 Sequences<T>& b_of, const std::vector<Asked<T>>& b, Gradients<Wide<T>>& b_pages) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i].d_q, b[i].d_q)) << "row " << i;
  for (size_t s = 0; s < a_of.pages.size(); ++s)
    for (size_t p = 0; p < a_of.pages[s].size(); ++p)
      EXPECT_TRUE(same_bits(a_pages.at(a_of.pages[s][p]), b_pages.at(b_of.pages[s][p])))
          << "sequence " << s << " page " << p;
}

// One row after the other and all at once, in the plain version; then in every version.
template <class T>
void expect_same_bits_everywhere(const AttentionShape& shape) {
  std::mt19937 random(7);
  set_kernels(Kernels::kPlain);
  Sequences<T> sequences(shape);
  auto asked = many_rows(sequences, random);
  auto alone = asked;
  for (Asked<T>& a : alone) {
    std::vector<Asked<T>> one = {a};
    run_gradient(sequences, one);
    a.d_q = one[0].d_q;
  }
  auto gradients = run_gradient(sequences, asked);
  for (size_t i = 0; i < asked.size(); ++i) EXPECT_TRUE(same_bits(asked[i].d_q, alone[i].d_q));
  for (Kernels which : all_kernels())
    for (int threads : {1, 3})
      for (int shift : {0, 1}) {
        SCOPED_TRACE(name_of(which) + " threads " + std::to_string(threads) + " shift " +
                     std::to_string(shift) + " head_dim " + std::to_string(shape.head_dim));
        random.seed(7);
        Sequences<T> moved(shape, shift);
        auto again = many_rows(moved, random);
        set_kernels(which);
        auto pages = run_gradient(moved, again, threads);
        expect_same(sequences, asked, gradients, moved, again, pages);
      }
}

TEST_F(AttentionGradient, HasTheSameBitsInEveryVersionAndWithAnyThreads) {
  for (const AttentionShape& shape : kShapes) {
    expect_same_bits_everywhere<bf16>(shape);
    expect_same_bits_everywhere<float>(shape);
  }
}

// Leaves of three branches of a tree, one after the other, so that all tiles meet at its pages.
TEST_F(AttentionGradient, TakesTilesInTheirOrderWithManyThreads) {
  std::mt19937 random(11);
  Sequences<bf16> sequences(shape_of(6, 2, 64));
  sequences.add(300, random);
  sequences.add(90, random, 0, 1);
  sequences.add(200, random, 0, 3);
  std::vector<Asked<bf16>> asked;
  for (int i = 0; i < 300; ++i)
    asked.push_back(ask<bf16>(sequences.shape, i / 3 % 3, 1 + (i * 7) % 90 + i / 3, random));
  for (Asked<bf16>& a : asked) a.keys = std::min<int64_t>(a.keys, a.sequence == 1 ? 90 : 189);
  attend_all(sequences, asked);
  const auto expected = run_gradient(sequences, asked);
  const auto first = asked;  // with d_q
  for (int threads : {2, 3, 8})
    for (int repeat = 0; repeat < 5; ++repeat) {
      for (const auto& [page, gradient] : run_gradient(sequences, asked, threads))
        EXPECT_TRUE(same_bits(gradient, expected.at(page))) << threads << " threads";
      for (size_t i = 0; i < asked.size(); ++i)
        EXPECT_TRUE(same_bits(asked[i].d_q, first[i].d_q)) << threads << " threads, row " << i;
      for (Asked<bf16>& a : asked) a.d_q.assign(a.d_q.size(), NAN);
    }
}

// Calls with some of the rows each, one after the other, give what one call gives.
TEST_F(AttentionGradient, AddsRowsInTheirOrder) {
  std::mt19937 random(9);
  Sequences<float> sequences(shape_of(6, 2, 64));
  sequences.add(64, random);
  std::vector<Asked<float>> asked;
  for (int i = 0; i < 40; ++i) asked.push_back(ask<float>(sequences.shape, 0, 20 + i, random));
  attend_all(sequences, asked);
  std::vector<float> d_pages[2][2];
  std::vector<float> reversed[2];
  const auto run = [&](std::vector<float>(&pages)[2], int first, int count, bool backwards) {
    float* list[2];
    for (int p : {0, 1}) {
      pages[p].resize(page_elements(sequences.shape));
      list[p] = pages[p].data();
    }
    std::vector<AttentionGradientRow<float>> rows;
    for (int i = first; i < first + count; ++i) {
      Asked<float>& a = asked[i];
      rows.push_back({a.q.data(), a.out.data(), a.log_sum.data(), a.d_out.data(),
                      sequences.pages[0].data(), list, a.keys, a.d_q.data()});
    }
    if (backwards) std::reverse(rows.begin(), rows.end());
    attend_gradient<float>(sequences.shape, rows, 1);
  };
  run(d_pages[0], 0, 40, false);
  const int ends[] = {0, 1, 8, 25, 40};
  for (int i = 0; i < 4; ++i) run(d_pages[1], ends[i], ends[i + 1] - ends[i], false);
  run(reversed, 0, 40, true);
  bool differs = false;
  for (int p : {0, 1}) {
    EXPECT_TRUE(same_bits(d_pages[0][p], d_pages[1][p]));
    differs |= !same_bits(d_pages[0][p], reversed[p]);
  }
  EXPECT_TRUE(differs);  // the control: another order has other bits
}

TEST_F(AttentionGradient, LeavesSlotsThatNobodyAttendsTo) {
  for (Kernels which : all_kernels()) {
    set_kernels(which);
    std::mt19937 random(9);
    Sequences<bf16> sequences(shape_of(3, 1, 66));
    sequences.add(40, random);
    std::vector<Asked<bf16>> asked = {ask<bf16>(sequences.shape, 0, 35, random)};
    attend_all(sequences, asked);
    auto gradients = run_gradient(sequences, asked);
    const auto& last = gradients.at(sequences.pages[0][1]);
    for (int64_t j = 32; j < 64; ++j)
      for (int d = 0; d < 66; ++d) {
        EXPECT_EQ(last[sequences.key_at(j, 0, d)] == 0, j >= 35) << j << " " << d;
        EXPECT_EQ(last[sequences.value_at(j, 0, d)] == 0, j >= 35) << j << " " << d;
      }
  }
}

TEST_F(AttentionGradient, MakesWhatIsNotFiniteNan) {
  for (Kernels which : all_kernels())
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      set_kernels(which);
      std::mt19937 random(3);
      Sequences<bf16> sequences(shape_of(4, 2, 66));
      sequences.add(70, random);
      std::vector<Asked<bf16>> asked = {ask<bf16>(sequences.shape, 0, 70, random)};
      sequences.key(0, 40, 1, 65) = number<bf16>(bad);
      attend_all(sequences, asked);
      run_gradient(sequences, asked);
      for (int i = 0; i < 4 * 66; ++i) EXPECT_EQ(std::isnan(asked[0].d_q[i]), i >= 2 * 66);
    }
}

}  // namespace
}  // namespace svfleet
