// The draw in blocks, which a GPU makes, against the plain running sum.
#include "worker/model/next_token.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "worker/model/head.h"

namespace svfleet {
namespace {

int drawn(const at::Tensor& probs, double uniform) {
  return int(
      draw_in_blocks(probs.unsqueeze(0), at::tensor({uniform}, at::kDouble)).item<int64_t>());
}

// Counts over a power of two: every sum is exact, so that the order of adding cannot matter.
at::Tensor exact_probabilities(int64_t vocabulary, std::mt19937& random) {
  at::Tensor probs = at::zeros({vocabulary}, at::kFloat);
  for (int i = 0; i < 4096; ++i)
    probs.data_ptr<float>()[random() % uint64_t(vocabulary)] += 1.0f / 4096;
  return probs;
}

TEST(DrawInBlocks, EqualsTheRunningSumWhereSumsAreExact) {
  std::mt19937 random(1);
  for (const int64_t vocabulary : {1, 5, 511, 512, 513, 1024, 49152}) {
    const int64_t rows = 200;
    std::vector<at::Tensor> probs;
    std::vector<double> uniforms;
    for (int64_t i = 0; i < rows; ++i) {
      probs.push_back(exact_probabilities(vocabulary, random));
      // Also numbers that fall exactly on the border between two tokens.
      uniforms.push_back(i % 2 ? double(random() % 4096) / 4096 : double(random()) / 4294967296.0);
    }
    const at::Tensor all = at::stack(probs);
    const at::Tensor tokens = draw_in_blocks(all, at::tensor(uniforms, at::kDouble));
    for (int64_t i = 0; i < rows; ++i) {
      const int expected = choose_token(probs[i].data_ptr<float>(), vocabulary, {}, uniforms[i]);
      EXPECT_EQ(tokens[i].item<int64_t>(), expected) << vocabulary << " " << uniforms[i];
      if (i < 20) {  // alone
        EXPECT_EQ(drawn(probs[i], uniforms[i]), expected);
      }
    }
  }
}

TEST(DrawInBlocks, NeverATokenWithoutProbability) {
  at::Tensor probs = at::zeros({1500}, at::kFloat);
  probs[3] = 0.1f, probs[700] = 0.7f, probs[701] = 0.2f;
  const double last = 1 - 0x1p-53;
  EXPECT_EQ(drawn(probs, 0), 3);
  EXPECT_EQ(drawn(probs, 0.5), 700);
  EXPECT_EQ(drawn(probs, last), 701);  // not 1499, and not in the padding
}

TEST(DrawInBlocks, ControlAnotherUniformDrawsAnotherToken) {
  std::mt19937 random(2);
  const at::Tensor probs = exact_probabilities(49152, random);
  int differ = 0;
  for (int i = 0; i < 100; ++i)
    differ += drawn(probs, i / 100.0) !=
              choose_token(probs.data_ptr<float>(), 49152, {}, (i + 0.5) / 100);
  EXPECT_GT(differ, 90);
}

// exp(difference / T) in float64; near 0 all but the largest vanish.
TEST(Distribution, TemperaturesDownToTheSmallest) {
  const at::Tensor hidden = at::eye(3, at::kFloat).narrow(0, 0, 1);
  const at::Tensor head = at::tensor({30.0f, 29.0f, -40.0f}).view({3, 1}).matmul(hidden);
  for (const double t : {1.0, 0.5, 0.05, 1e-6, 1e-29, 1e-31, 1e-38, 1e-45, 1e-300, 5e-324}) {
    const Head of(Matrix{head});
    const Distribution one = distribution(of.logits(hidden), t);
    const double other = std::exp(-1 / t);
    EXPECT_NEAR(one.probs[0][0].item<double>(), 1 / (1 + other), 1e-6) << t;
    EXPECT_NEAR(one.probs[0][1].item<double>(), other / (1 + other), 1e-6) << t;
    EXPECT_TRUE(std::isfinite(one.entropy[0].item<double>())) << t;
    const NextTokens next = next_tokens(one, {0}, {0.3}, {.temperature = t});
    EXPECT_EQ(next.tokens[0], 0) << t;
    EXPECT_TRUE(std::isfinite(next.log_probs[0])) << t;
    const NextTokens drawn = of.draw(hidden, {0}, {0.3}, {.temperature = t});  // by the kernels
    EXPECT_EQ(drawn.tokens[0], 0) << t;
    EXPECT_NEAR(drawn.log_probs[0], std::log(1 / (1 + other)), 1e-6) << t;
    EXPECT_NEAR(drawn.entropies[0], double(one.entropy[0].item<float>()), 1e-5) << t;
  }
}

TEST(NextTokens, RowsNameTheirDistribution) {
  Distribution from;
  from.probs = at::tensor({0.0f, 1.0f, 0.0f, 0.25f, 0.25f, 0.5f}).view({2, 3});
  from.log_probs = from.probs.log();
  from.entropy = at::tensor({0.0f, 1.5f});
  const NextTokens next = next_tokens(from, {1, 0, 1}, {0.9, 0.9, 0.1}, {});
  EXPECT_EQ(next.tokens, (std::vector<int>{2, 1, 0}));
  EXPECT_EQ(next.entropies, (std::vector<double>{1.5, 0, 1.5}));
  EXPECT_FLOAT_EQ(next.log_probs[0], std::log(0.5f));
  EXPECT_EQ(next_tokens(from, {1, 0}, {0, 0}, {.temperature = 0}).tokens, (std::vector<int>{2, 1}));
}

}  // namespace
}  // namespace svfleet
