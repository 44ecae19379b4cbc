#include "worker/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>

#include "tests/worker/kernels/every_kernels.h"

namespace svfleet {
namespace {

template <class T>
class Elementwise : public testing::Test {};
using Types = testing::Types<bf16, float, double>;
TYPED_TEST_SUITE(Elementwise, Types);

// Every value within one neighbour of the truth, and nearly all on it.
template <class T>
double share_on_truth(const std::vector<T>& values, const std::vector<double>& truth) {
  int64_t equal = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    // Rounding in the middle may shift it by a neighbour of its own.
    const double wide = sizeof(T) == 2 ? 2.01 : 64;
    if (!(std::abs(widen(values[i]) - truth[i]) <= wide * std::max(spacing<T>(truth[i]), 1e-30)))
      ADD_FAILURE() << i << ": " << widen(values[i]) << " is not " << truth[i];
    equal += widen(values[i]) == truth[i];
  }
  return double(equal) / double(truth.size());
}

// Wide results of small error: |difference| <= tolerance * (|truth| + scale).
template <class W>
double worst(const std::vector<W>& values, const std::vector<double>& truth, double scale) {
  double most = 0;
  for (size_t i = 0; i < truth.size(); ++i)
    most = std::max(most, std::abs(double(values[i]) - truth[i]) / (std::abs(truth[i]) + scale));
  return most;
}

template <class T>
constexpr double kSmall = sizeof(Wide<T>) == 4 ? 2e-6 : 1e-13;

template <class T>
std::vector<double> norm_truth(const std::vector<T>& x, const std::vector<T>& weight, int64_t width,
                               double epsilon) {
  std::vector<double> out(x.size());
  for (size_t start = 0; start < x.size(); start += width) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += std::pow(widen(x[start + i]), 2);
    const double scale = 1 / std::sqrt(squares / double(width) + epsilon);
    for (int64_t i = 0; i < width; ++i)
      out[start + i] =
          rounded<T>(rounded<T>(widen(x[start + i]) * scale) * double(widen(weight[i])));
  }
  return out;
}

TYPED_TEST(Elementwise, NormsRows) {
  using T = TypeParam;
  for (int64_t width : {1, 7, 16, 48, 576, 601}) {
    const int64_t rows = 5;
    const auto x = normals<T>(rows * width, 0.01, width), weight = normals<T>(width, 1, 2);
    std::vector<T> out(x.size());
    std::vector<Wide<T>> inverse(rows);
    rms_norm<T>(x.data(), weight.data(), rows, width, 1e-5, out.data(), inverse.data(), 1);
    if (sizeof(T) == 2) {
      EXPECT_GT(share_on_truth(out, norm_truth(x, weight, width, 1e-5)), 0.98) << width;
    } else {
      share_on_truth(out, norm_truth(x, weight, width, 1e-5));
    }
    std::vector<T> again(x.size());
    rms_norm<T>(x.data(), weight.data(), rows, width, 1e-5, again.data(), nullptr, 1);
    EXPECT_EQ(bytes(again), bytes(out));
  }
}

TYPED_TEST(Elementwise, NormsGradient) {
  using T = TypeParam;
  using W = Wide<T>;
  for (int64_t width : {1, 9, 64, 577}) {
    const int64_t rows = 4;
    const auto x = normals<T>(rows * width, 0.02, 3), weight = normals<T>(width, 1, 4);
    const auto d_out = normals<W>(rows * width, 1, 5), before = normals<W>(rows * width, 1, 6);
    std::vector<T> out(x.size());
    std::vector<W> inverse(rows), d_x = before;
    rms_norm<T>(x.data(), weight.data(), rows, width, 1e-5, out.data(), inverse.data(), 1);
    rms_norm_gradient<T>(x.data(), weight.data(), inverse.data(), d_out.data(), rows, width,
                         d_x.data(), 1);
    // Central differences of sum_i d_out_i w_i x_i s(x), in double and without roundings.
    std::vector<double> truth(x.size());
    for (int64_t row = 0; row < rows; ++row) {
      double squares = 0, product = 0;
      for (int64_t i = 0; i < width; ++i) {
        const double own = widen(x[row * width + i]);
        squares += own * own;
        product += double(d_out[row * width + i]) * widen(weight[i]) * own;
      }
      for (int64_t i = 0; i < width; ++i) {
        const double own = widen(x[row * width + i]), h = 1e-6;
        const double g = double(d_out[row * width + i]) * widen(weight[i]);
        const auto loss = [&](double moved) {
          return (product + g * (moved - own)) /
                 std::sqrt((squares - own * own + moved * moved) / double(width) + 1e-5);
        };
        truth[row * width + i] =
            double(before[row * width + i]) + (loss(own + h) - loss(own - h)) / (2 * h);
      }
    }
    EXPECT_LT(worst(d_x, truth, 20), sizeof(W) == 4 ? 1e-5 : 1e-6) << width;
    truth[0] += 0.01;
    EXPECT_GT(worst(d_x, truth, 20), 1e-5);
  }
}

TYPED_TEST(Elementwise, Rotates) {
  using T = TypeParam;
  using W = Wide<T>;
  for (int head_dim : {2, 6, 64, 80, 128}) {
    const int64_t rows = 3;
    const int heads = 3, half = head_dim / 2;
    const auto x = normals<T>(rows * heads * head_dim, 1, 7);
    std::vector<W> cos(rows * half), sin(rows * half);
    for (size_t i = 0; i < cos.size(); ++i)
      cos[i] = W(std::cos(0.3 * double(i))), sin[i] = W(std::sin(0.3 * double(i)));
    std::vector<double> truth(x.size()), back(x.size());
    std::vector<W> d(x.size());
    for (size_t i = 0; i < x.size(); ++i) d[i] = widen(x[i]);
    for (int64_t row = 0; row < rows; ++row)
      for (int head = 0; head < heads; ++head)
        for (int i = 0; i < half; ++i) {
          const int64_t at = (row * heads + head) * head_dim + i;
          const double a = widen(x[at]), b = widen(x[at + half]);
          const double c = cos[row * half + i], s = sin[row * half + i];
          truth[at] = a * c - b * s, truth[at + half] = b * c + a * s;
          back[at] = a * c + b * s, back[at + half] = b * c - a * s;
        }
    rotate_gradient<T>(d.data(), cos.data(), sin.data(), rows, {heads, head_dim, head_dim}, 1);
    EXPECT_LT(worst(d, back, 1), kSmall<T>);
    EXPECT_GT(worst(d, truth, 1), 0.01);
    std::vector<T> turned = x;
    rotate<T>(turned.data(), cos.data(), sin.data(), rows, {heads, head_dim, head_dim}, 1);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_LE(std::abs(widen(turned[i]) - truth[i]), 0.501 * spacing<T>(truth[i]) + kSmall<T>)
          << i;
  }
}

double silu(double g) {
  return g / (1 + std::exp(-g));
}

TYPED_TEST(Elementwise, MultipliesWithTheGate) {
  using T = TypeParam;
  using W = Wide<T>;
  const int64_t n = 1537;
  auto gate = normals<T>(n, 3, 8);
  const auto up = normals<T>(n, 1, 9);
  gate[0] = narrow<T>(-200), gate[1] = narrow<T>(200), gate[2] = narrow<T>(0);
  const auto d_out = normals<W>(n, 1, 10);
  std::vector<T> out(n);
  std::vector<W> d_gate(n), d_up(n);
  gate_product<T>(Activation::kSilu, gate.data(), up.data(), n, out.data(), 1);
  gate_product_gradient<T>(Activation::kSilu, gate.data(), up.data(), d_out.data(), n,
                           d_gate.data(), d_up.data(), 1);
  std::vector<double> truth(n), of_gate(n), of_up(n);
  for (int64_t i = 0; i < n; ++i) {
    const double g = widen(gate[i]), u = widen(up[i]), h = 1e-5;
    truth[i] = rounded<T>(rounded<T>(silu(g)) * u);
    of_gate[i] = d_out[i] * u * (silu(g + h) - silu(g - h)) / (2 * h);
    of_up[i] = d_out[i] * rounded<T>(silu(g));
  }
  if (sizeof(T) == 2) {
    EXPECT_GT(share_on_truth(out, truth), 0.99);
  } else {
    share_on_truth(out, truth);
  }
  EXPECT_LT(worst(d_gate, of_gate, 1), sizeof(W) == 4 ? 2e-6 : 1e-8);
  EXPECT_LT(worst(d_up, of_up, 1), sizeof(T) == 2 ? 4e-3 : kSmall<T>);  // a tie taken otherwise
  EXPECT_GT(worst(d_up, of_gate, 1), 0.1);
}

double gelu(double g) {
  return g * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
}

TYPED_TEST(Elementwise, MultipliesWithGelu) {
  using T = TypeParam;
  using W = Wide<T>;
  const int64_t n = 1537;
  auto gate = normals<T>(n, 2, 8);
  const auto up = normals<T>(n, 1, 9);
  gate[0] = narrow<T>(-200), gate[1] = narrow<T>(200), gate[2] = narrow<T>(0);
  const auto d_out = normals<W>(n, 1, 10);
  std::vector<T> out(n);
  std::vector<W> d_gate(n), d_up(n);
  gate_product<T>(Activation::kGeluTanh, gate.data(), up.data(), n, out.data(), 1);
  gate_product_gradient<T>(Activation::kGeluTanh, gate.data(), up.data(), d_out.data(), n,
                           d_gate.data(), d_up.data(), 1);
  std::vector<double> truth(n), of_gate(n), of_up(n);
  for (int64_t i = 0; i < n; ++i) {
    const double g = widen(gate[i]), u = widen(up[i]), h = 1e-5;
    truth[i] = rounded<T>(rounded<T>(gelu(g)) * u);
    of_gate[i] = d_out[i] * u * (gelu(g + h) - gelu(g - h)) / (2 * h);
    of_up[i] = d_out[i] * rounded<T>(gelu(g));
  }
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) values[size_t(i)] = widen(out[size_t(i)]);
  EXPECT_LT(worst(values, truth, 1), sizeof(T) == 2 ? 8e-3 : kSmall<T>);
  EXPECT_LT(worst(d_gate, of_gate, 1), sizeof(W) == 4 ? 4e-6 : 1e-8);
  EXPECT_LT(worst(d_up, of_up, 1), sizeof(T) == 2 ? 4e-3 : kSmall<T>);
  EXPECT_GT(worst(d_up, of_gate, 1), 0.1);  // control
}

// Gemma and OLMo 2 round once, behind a weight that is wide; Llama's order gives other bits.
TEST(Norm, RoundsAsOftenAsItsFamily) {
  const int64_t rows = 9, width = 601;
  const auto x = normals<bf16>(rows * width, 0.7, 1), weight = normals<bf16>(width, 1, 2);
  std::vector<float> wide(width);
  for (int64_t i = 0; i < width; ++i) wide[size_t(i)] = 1 + widen(weight[size_t(i)]);
  for (const Kernels which : every_kernels()) {
    const WithKernels with(which);
    std::vector<bf16> out(x.size()), twice(x.size());
    rms_norm<bf16>(x.data(), wide.data(), rows, width, 1e-6, out.data(), nullptr, 1);
    rms_norm<bf16>(x.data(), weight.data(), rows, width, 1e-6, twice.data(), nullptr, 1);
    std::vector<double> once_truth(x.size()), twice_truth(x.size());
    int64_t other = 0;
    for (int64_t row = 0; row < rows; ++row) {
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) squares += std::pow(widen(x[row * width + i]), 2);
      const double s = 1 / std::sqrt(squares / double(width) + 1e-6);
      for (int64_t i = 0; i < width; ++i) {
        const double normed = widen(x[row * width + i]) * s;
        once_truth[row * width + i] = rounded<bf16>(normed * wide[size_t(i)]);
        other += once_truth[row * width + i] !=
                 rounded<bf16>(rounded<bf16>(normed) * double(wide[size_t(i)]));
      }
    }
    EXPECT_GT(share_on_truth(out, once_truth), 0.999);
    EXPECT_GT(other, rows * width / 5);  // control: the other order
    EXPECT_GT(share_on_truth(twice, norm_truth(x, weight, width, 1e-6)), 0.98);
  }
}

TYPED_TEST(Elementwise, CapsSoftlyAndAddsScaled) {
  using T = TypeParam;
  using W = Wide<T>;
  const int64_t n = 531;
  auto x = normals<W>(n, 8, 21);
  x[0] = W(1e6), x[1] = W(-1e6), x[2] = 0;
  const std::vector<W> before = x;
  std::vector<W> slope(n);
  soft_cap<W>(x.data(), 5, n, slope.data(), 1);
  const auto h = normals<T>(n, 1, 22), y = normals<T>(n, 1, 23);
  std::vector<T> sum = h;
  add_scaled<T>(sum.data(), y.data(), 0.22, n, 1);
  for (int64_t i = 0; i < n; ++i) {
    const double t = std::tanh(double(before[size_t(i)]) / 5);
    EXPECT_NEAR(x[size_t(i)], 5 * t, sizeof(W) == 4 ? 2e-6 : 1e-14);
    EXPECT_NEAR(slope[size_t(i)], 1 - t * t, sizeof(W) == 4 ? 1e-6 : 1e-14);
    EXPECT_EQ(widen(sum[size_t(i)]),
              rounded<T>(W(widen(h[size_t(i)]) + W(rounded<T>(W(widen(y[size_t(i)]) * W(0.22)))))));
  }
}

// Half of each head turns, the rest stays.
TYPED_TEST(Elementwise, TurnsAPartOfAHead) {
  using T = TypeParam;
  using W = Wide<T>;
  const int rows = 3, heads = 2, head_dim = 12, half = 3;
  const auto cos = normals<W>(rows * half, 1, 31), sin = normals<W>(rows * half, 1, 32);
  const auto x = normals<T>(rows * heads * head_dim, 1, 33);
  std::vector<T> turned = x;
  rotate<T>(turned.data(), cos.data(), sin.data(), rows, {heads, head_dim, 2 * half}, 1);
  for (int row = 0; row < rows; ++row)
    for (int head = 0; head < heads; ++head)
      for (int i = 0; i < head_dim; ++i) {
        const int at = (row * heads + head) * head_dim, place = i % half;
        const double a = widen(x[size_t(at + place)]), b = widen(x[size_t(at + half + place)]),
                     c = cos[size_t(row * half + place)], s = sin[size_t(row * half + place)];
        const double expected = i < half       ? a * c - b * s
                                : i < 2 * half ? b * c + a * s
                                               : double(widen(x[size_t(at + i)]));
        EXPECT_NEAR(widen(turned[size_t(at + i)]), expected, sizeof(T) == 2 ? 0.04 : 1e-5);
      }
}

TYPED_TEST(Elementwise, AddsRoundsAndScales) {
  using T = TypeParam;
  using W = Wide<T>;
  const int64_t rows = 7, r = 37;
  const auto h = normals<T>(rows * r, 1, 11), y = normals<T>(rows * r, 0.3, 12);
  const auto x = normals<W>(rows * r, 1, 13), d = normals<W>(3 * r, 1, 14);
  const std::vector<int> scale_of = {2, 0, 1, 1, 2, 0, 0};
  std::vector<T> sum = h, round(rows * r), scaled(rows * r), first(rows * r);
  add_rows<T>(sum.data(), y.data(), rows * r, 1);
  round_to<T>(x.data(), rows * r, round.data(), 1);
  scale_rows<T>(x.data(), d.data(), scale_of.data(), rows, r, scaled.data(), 1);
  scale_rows<T>(x.data(), d.data(), nullptr, rows, r, first.data(), 1);
  for (int64_t i = 0; i < rows * r; ++i) {
    EXPECT_EQ(widen(sum[i]), rounded<T>(W(widen(h[i]) + widen(y[i]))));
    EXPECT_EQ(widen(round[i]), rounded<T>(x[i]));
    EXPECT_EQ(widen(scaled[i]), rounded<T>(W(x[i] * d[scale_of[i / r] * r + i % r])));
    EXPECT_EQ(widen(first[i]), rounded<T>(W(x[i] * d[i % r])));
  }
}

TEST(RoundTo, IsTheNearestOfAllBf16) {
  std::vector<float> x;
  for (uint32_t upper = 0; upper < 65536; ++upper)
    for (uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(upper << 16 | lower));
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    std::vector<bf16> out(x.size());
    round_to<bf16>(x.data(), int64_t(x.size()), out.data(), 1);
    int64_t wrong = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double truth = rounded<bf16>(x[i]);
      const double told = widen(out[i]);
      if (std::isnan(x[i]))
        wrong += !std::isnan(told);
      else if (std::abs(truth) >= std::ldexp(1.0, 128))
        wrong += !(std::isinf(told) && (told > 0) == (x[i] > 0));
      else
        wrong += told != truth || std::signbit(told) != std::signbit(x[i]);
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST(AddKeyed, LeavesWhatDoesNotChange) {
  const auto x = normals<bf16>(4 * 300, 1, 15);
  const std::vector<float> change(x.size());
  const std::vector<uint64_t> keys = {0, 1, ~uint64_t{0}, 77};
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    std::vector<bf16> out(x.size());
    add_keyed<bf16>(x.data(), change.data(), keys.data(), 4, 300, out.data(), 1);
    EXPECT_EQ(bytes(out), bytes(x));
  }
}

TEST(AddKeyed, HasTheSumForMean) {
  const int64_t rows = 4000, width = 19;
  std::vector<bf16> x(rows * width), out(rows * width), nearest(rows * width);
  std::vector<float> change(rows * width), sum(rows * width);
  std::vector<uint64_t> keys(rows);
  for (int64_t row = 0; row < rows; ++row) {
    keys[row] = uint64_t(row);
    for (int64_t i = 0; i < width; ++i) {
      x[row * width + i] = to_bf16(i % 2 ? -1.5f : 1.0f);
      change[row * width + i] = (float(i) - 9) * 0.0007f;
      sum[row * width + i] = widen(x[row * width + i]) + change[row * width + i];
    }
  }
  add_keyed<bf16>(x.data(), change.data(), keys.data(), rows, width, out.data(), 1);
  round_to<bf16>(sum.data(), rows * width, nearest.data(), 1);
  double bias_of_nearest = 0;
  for (int64_t i = 0; i < width; ++i) {
    double mean = 0, mean_of_nearest = 0;
    std::set<float> values;
    for (int64_t row = 0; row < rows; ++row) {
      mean += widen(out[row * width + i]) / double(rows);
      mean_of_nearest += widen(nearest[row * width + i]) / double(rows);
      values.insert(widen(out[row * width + i]));
    }
    EXPECT_LE(values.size(), 2u);  // the neighbours alone
    for (float value : values) EXPECT_LT(std::abs(value - sum[i]), spacing<bf16>(sum[i]));
    EXPECT_NEAR(mean, sum[i], 5 * 0.5 * spacing<bf16>(sum[i]) / std::sqrt(double(rows))) << i;
    bias_of_nearest = std::max(bias_of_nearest, std::abs(mean_of_nearest - sum[i]));
  }
  EXPECT_GT(bias_of_nearest, 5 * 0.5 * spacing<bf16>(1) / std::sqrt(double(rows)));
}

TEST(AddKeyed, TakesTheBitsThatItSays) {
  const int64_t width = 67;
  const auto x = normals<bf16>(width, 1, 16);
  const auto change = normals<float>(width, 0.01, 17);
  const uint64_t key = 0x123456789;
  std::vector<bf16> out(width);
  add_keyed<bf16>(x.data(), change.data(), &key, 1, width, out.data(), 1);
  for (int64_t c = 0; c < width; ++c) {
    const uint32_t random = uint16_t(mix(key, c / 4) >> (16 * (c % 4)));
    const float sum = widen(x[c]) + change[c];
    EXPECT_EQ(out[c].bits, uint16_t((std::bit_cast<uint32_t>(sum) + random) >> 16)) << c;
  }
}

TEST(AddKeyed, KeepsNaNAndInfinity) {
  const std::vector<bf16> x(5);
  const std::vector<float> change = {std::bit_cast<float>(0x7fffffffu),
                                     std::bit_cast<float>(0xffffffffu),
                                     std::bit_cast<float>(0x7f800001u), INFINITY, -INFINITY};
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    for (uint64_t key = 0; key < 50; ++key) {
      std::vector<bf16> out(5);
      add_keyed<bf16>(x.data(), change.data(), &key, 1, 5, out.data(), 1);
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(widen(out[i])));
      EXPECT_EQ(widen(out[3]), INFINITY);
      EXPECT_EQ(widen(out[4]), -INFINITY);
    }
  }
}

TEST(Mix, SpreadsSmallNumbers) {
  std::set<uint64_t> seen;
  double flipped = 0;
  int counted = 0;
  for (uint64_t key = 0; key < 64; ++key)
    for (uint64_t value = 0; value < 64; ++value) {
      seen.insert(mix(key, value));
      for (int bit : {0, 1, 17, 63}) {
        flipped += std::popcount(mix(key, value) ^ mix(key ^ (uint64_t{1} << bit), value));
        flipped += std::popcount(mix(key, value) ^ mix(key, value ^ (uint64_t{1} << bit)));
        counted += 2;
      }
    }
  EXPECT_EQ(seen.size(), 64u * 64);
  EXPECT_NEAR(flipped / counted, 32, 0.2);
}

TYPED_TEST(Elementwise, AddsProductsOneRowAfterTheOther) {
  using A = Wide<TypeParam>;
  const int64_t rows = 1100, r = 33;
  const auto a = normals<A>(rows * r, 1, 18), b = normals<A>(rows * r, 1, 19);
  auto sums = normals<double>(r, 1, 20);
  auto truth = sums, parts = sums;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < r; ++i)
      truth[i] = truth[i] + double(a[row * r + i]) * double(b[row * r + i]);
  const auto before = sums;
  for (Kernels which : every_kernels())
    for (int threads : {1, 2, 3}) {
      const WithKernels with(which);
      sums = parts = before;
      add_products<A>(a.data(), b.data(), rows, r, sums.data(), threads);
      add_products<A>(a.data(), b.data(), 31, r, parts.data(), threads);
      add_products<A>(a.data() + 31 * r, b.data() + 31 * r, rows - 31, r, parts.data(), threads);
      EXPECT_EQ(bytes(sums), bytes(truth));
      EXPECT_EQ(bytes(parts), bytes(truth));
      EXPECT_NE(bytes(sums), bytes(before));
    }
}

// Everything there is on `rows` rows from `first` on of the same numbers, one row's bytes after the
// other, with the numbers `shift` elements away from where they were allocated.
template <class T>
std::vector<std::string> all_of_it(int64_t first, int64_t rows, int head_dim, int threads,
                                   int shift) {
  using W = Wide<T>;
  const int heads = 3;
  const int64_t width = heads * head_dim, half = head_dim / 2, all = 40;
  const auto cut = [&](auto values, int64_t of_row) {
    values.erase(values.begin(), values.begin() + first * of_row);
    values.resize(rows * of_row);
    values.insert(values.begin(), shift, {});
    return values;
  };
  auto x = cut(normals<T>(all * width, 1, 21), width),
       y = cut(normals<T>(all * width, 1, 22), width);
  const auto weight = normals<T>(width, 1, 23);
  auto wide = cut(normals<W>(all * width, 1, 24), width);
  auto cos = cut(normals<W>(all * half, 1, 25), half),
       sin = cut(normals<W>(all * half, 1, 26), half);
  std::vector<uint64_t> keys(shift);
  for (int64_t row = first; row < first + rows; ++row) keys.push_back(mix(5, row));
  const int64_t n = rows * width;
  std::vector<std::string> out(rows);
  const auto keep = [&](const auto& values, int64_t of_row) {
    for (int64_t row = 0; row < rows; ++row)
      out[row].append(reinterpret_cast<const char*>(values.data() + shift + row * of_row),
                      of_row * sizeof values[0]);
  };
  const T *of_x = x.data() + shift, *of_y = y.data() + shift;
  const W* d = wide.data() + shift;
  std::vector<T> t(shift + n);
  std::vector<W> w(shift + n), v(shift + n), inverse(shift + rows);
  rms_norm<T>(of_x, weight.data(), rows, width, 1e-5, t.data() + shift, inverse.data() + shift,
              threads);
  keep(t, width), keep(inverse, 1);
  rms_norm_gradient<T>(of_x, weight.data(), inverse.data() + shift, d, rows, width,
                       w.data() + shift, threads);
  keep(w, width);
  gate_product<T>(Activation::kSilu, of_x, of_y, n, t.data() + shift, threads);
  keep(t, width);
  gate_product_gradient<T>(Activation::kSilu, of_x, of_y, d, n, w.data() + shift, v.data() + shift,
                           threads);
  keep(w, width), keep(v, width);
  round_to<T>(d, n, t.data() + shift, threads);
  keep(t, width);
  add_keyed<T>(of_x, d, keys.data() + shift, rows, width, t.data() + shift, threads);
  keep(t, width);
  scale_rows<T>(d, normals<W>(width, 1, 28).data(), nullptr, rows, width, t.data() + shift,
                threads);
  keep(t, width);
  rotate<T>(x.data() + shift, cos.data() + shift, sin.data() + shift, rows,
            {heads, head_dim, head_dim}, threads);
  keep(x, width);
  rotate_gradient<T>(wide.data() + shift, cos.data() + shift, sin.data() + shift, rows,
                     {heads, head_dim, head_dim}, threads);
  keep(wide, width);
  add_rows<T>(y.data() + shift, x.data() + shift, n, threads);
  keep(y, width);
  return out;
}

TYPED_TEST(Elementwise, HasTheSameBitsEverywhere) {
  using T = TypeParam;
  for (int head_dim : {2, 10, 64, 400}) {
    const WithKernels plain(Kernels::kPlain);
    const auto truth = all_of_it<T>(0, 40, head_dim, 1, 0);
    for (Kernels which : every_kernels()) {
      const WithKernels with(which);
      for (int threads : {1, 2, 3}) {
        EXPECT_EQ(all_of_it<T>(0, 40, head_dim, threads, 0), truth)
            << int(which) << " " << head_dim;
      }
      for (int64_t row : {0, 7, 39})
        EXPECT_EQ(all_of_it<T>(row, 1, head_dim, 1, 1 + int(row) % 5)[0], truth[row]);
    }
    EXPECT_NE(all_of_it<T>(1, 1, head_dim, 1, 0)[0], truth[0]);
  }
}

}  // namespace
}  // namespace svfleet
