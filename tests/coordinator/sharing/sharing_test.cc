// LoRA factors and rebased experts against dgesdd in float64 and closed forms.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "comm/error.h"
#include "coordinator/sharing/lora.h"
#include "coordinator/sharing/rebase.h"
#include "coordinator/sharing/transfer.h"

namespace svfleet {
namespace {

struct Case {
  Factor factor;
  at::Tensor weight, u, s, v;  // W = u diag(s) v
  std::vector<float> z;

  Case(int64_t rows, int64_t cols) {
    at::manual_seed(rows);
    weight = at::randn({rows, cols}, at::kDouble);
    std::tie(u, s, v) = at::linalg_svd(weight, false);
    const Target target{"model.layers.0.mlp.up_proj.weight",       "up_proj", 0, rows, cols,
                        cols <= rows ? Form::kRight : Form::kLeft, 0};
    factor = decompose(target, weight.clone(), at::kFloat);
    const at::Tensor moves = at::randn({target.length()}, at::kDouble) * 0.1;
    for (int64_t i = 0; i < target.length(); ++i)
      z.push_back(float(1 + moves.data_ptr<double>()[i]));
  }

  at::Tensor d() const {
    at::Tensor d = at::empty({int64_t(z.size())}, at::kDouble);
    for (size_t i = 0; i < z.size(); ++i) d.data_ptr<double>()[i] = double(z[i]) - 1;
    return d;
  }
  at::Tensor change() const { return (u * (s * d())).mm(v); }
};

double length_of(const at::Tensor& a) {
  return a.norm().item<double>();
}
double gap(const LoraFactors& lora, const at::Tensor& change) {
  return length_of(lora.b.to(at::kDouble).mm(lora.a.to(at::kDouble)) - change) / length_of(change);
}

const std::pair<int64_t, int64_t> kShapes[] = {{40, 24}, {24, 40}, {32, 32}};

TEST(Lora, OfFullRankIsTheExpert) {
  for (const auto& [rows, cols] : kShapes) {
    Case c(rows, cols);
    const LoraFactors lora = lora_of(c.factor, c.weight, c.z, 1000);
    EXPECT_EQ(lora.rank(), std::min(rows, cols));
    EXPECT_EQ(lora.lost2, 0);
    EXPECT_LT(gap(lora, c.change()), 1e-6);
    EXPECT_NEAR(std::sqrt(lora.norm2), length_of(c.change()), 1e-6 * length_of(c.change()));
    // Controls: neither the mirrored expert nor its moves in another order.
    Case other = c;
    for (float& z : other.z) z = 2 - z;
    EXPECT_GT(gap(lora, other.change()), 1);
    other = c;
    std::reverse(other.z.begin(), other.z.end());
    EXPECT_GT(gap(lora, other.change()), 0.5);
  }
}

TEST(Lora, HasTheRankOfWhatMoves) {
  for (const auto& [rows, cols] : kShapes) {
    Case c(rows, cols);
    for (size_t i = 0; i < c.z.size(); ++i)
      if (i % 5 != 2) c.z[i] = 1;
    const LoraFactors lora = lora_of(c.factor, c.weight, c.z, 64);
    EXPECT_EQ(lora.rank(), int64_t(c.z.size() + 2) / 5);
    EXPECT_LT(gap(lora, c.change()), 1e-6);
    c.z.assign(c.z.size(), 1);
    EXPECT_EQ(lora_of(c.factor, c.weight, c.z, 64).rank(), 0);
  }
}

// No change of rank k is nearer than what LAPACK's singular values of the change itself leave.
TEST(Lora, CutToARankIsTheBestOfThatRank) {
  for (const auto& [rows, cols] : kShapes) {
    const Case c(rows, cols);
    const at::Tensor change = c.change();
    const auto [u, s, v] = at::linalg_svd(change, false);
    for (const int64_t k : {1, 5, 11}) {
      const LoraFactors lora = lora_of(c.factor, c.weight, c.z, k);
      const double best = length_of(s.slice(0, k)) / length_of(change);
      EXPECT_EQ(lora.rank(), k);
      EXPECT_NEAR(gap(lora, change), best, 1e-6);
      EXPECT_NEAR(std::sqrt(lora.lost2 / lora.norm2), best, 1e-6);
      EXPECT_GT(best, 0.05);
    }
  }
}

// Two columns of Q turned by `angle`: another basis of the same space.
Factor turned(Factor factor, int64_t i, int64_t j, double angle) {
  at::Tensor q = factor.q.to(at::kDouble).clone();
  const at::Tensor a = q.select(1, i).clone(), b = q.select(1, j).clone();
  q.select(1, i).copy_(std::cos(angle) * a + std::sin(angle) * b);
  q.select(1, j).copy_(std::cos(angle) * b - std::sin(angle) * a);
  factor.q = q.to(at::kFloat);
  return factor;
}

TEST(Rebase, SignsLoseNothing) {
  const Case c(40, 24);
  Factor other = c.factor;
  other.q = other.q.clone();
  other.q.select(1, 3).neg_();
  const Rebased found = rebased(c.factor, other, c.z);
  for (size_t i = 0; i < c.z.size(); ++i) EXPECT_NEAR(found.z[i], c.z[i], 1e-6);
  EXPECT_LT(std::sqrt(found.lost2 / found.norm2), 1e-6);
}

// From a store with Q on one side to one with it on the other, of full rank and of half of it: the
// change is LAPACK's.
TEST(Rebase, GoesToTheOtherSide) {
  for (const auto& [rows, cols] : kShapes)
    for (const bool half : {false, true}) {
      Case c(rows, cols);
      const int64_t r = c.factor.target.length();
      if (half) {
        c.s = c.s.clone();
        c.s.slice(0, r / 2).zero_();
        c.weight = (c.u * c.s).mm(c.v);
        c.factor = decompose(c.factor.target, c.weight.clone(), at::kFloat);
      }
      Target target = c.factor.target;
      target.form = target.form == Form::kRight ? Form::kLeft : Form::kRight;
      const Factor to = decompose(target, c.weight.clone(), at::kFloat);
      const Rebased found = rebased(other_side(c.factor, c.weight), to, c.z);
      EXPECT_LT(std::sqrt(found.lost2 / found.norm2), 1e-5) << rows << " x " << cols;
      EXPECT_LT(gap(lora_of(to, c.weight, found.z, 1000), c.change()), 1e-5);
      std::vector<float> reversed(c.z.rbegin(), c.z.rend());
      EXPECT_GT(gap(lora_of(to, c.weight, reversed, 1000), c.change()), 0.3) << "control";
    }
}

// z'_i - 1 = cos^2 d_i + sin^2 d_j, and what is lost is (sigma_i^2 + sigma_j^2) (cos sin (d_i -
// d_j))^2.
TEST(Rebase, ATurnIsItsClosedForm) {
  for (const auto& [rows, cols] : kShapes) {
    const Case c(rows, cols);
    const int64_t i = 4, j = 5;
    const double angle = 0.4, cc = std::cos(angle) * std::cos(angle), ss = 1 - cc;
    const Rebased found = rebased(c.factor, turned(c.factor, i, j, angle), c.z);
    const double di = double(c.z[i]) - 1, dj = double(c.z[j]) - 1;
    EXPECT_NEAR(found.z[i] - 1, cc * di + ss * dj, 1e-6);
    EXPECT_NEAR(found.z[j] - 1, cc * dj + ss * di, 1e-6);
    EXPECT_NEAR(found.z[0], c.z[0], 1e-6);
    const auto& sigma = c.factor.sigma;
    const double lost =
        (sigma[i] * sigma[i] + sigma[j] * sigma[j]) * cc * ss * (di - dj) * (di - dj);
    EXPECT_NEAR(std::sqrt(found.lost2), std::sqrt(lost), 1e-5);
    EXPECT_GT(found.lost2, 0);
  }
}

// The error that is told is that of the changes themselves, where singular values are equal; and
// any other diagonal is further away.
TEST(Rebase, IsTheNearestDiagonal) {
  Case c(40, 24);
  const int64_t i = 4, j = 5;
  c.s[j].copy_(c.s[i]);
  c.weight = (c.u * c.s).mm(c.v);
  c.factor.sigma[j] = c.factor.sigma[i];
  const Factor other = turned(c.factor, i, j, std::numbers::pi / 4);
  Rebased found = rebased(c.factor, other, c.z);
  const auto distance = [&](const std::vector<float>& z) {
    return gap(lora_of(other, c.weight, z, 1000), c.change());
  };
  const double error = std::sqrt(found.lost2 / found.norm2);
  EXPECT_NEAR(distance(found.z), error, 1e-5);
  EXPECT_GT(error, 1e-3);
  EXPECT_GT(distance(c.z), error * 1.1);  // control: z as it was
  for (const float by : {-0.01f, 0.01f}) {
    std::vector<float> z = found.z;
    z[i] += by;
    EXPECT_GT(distance(z), error);
  }
}

TEST(Transfer, NamesWhatDoesNotFit) {
  Architecture architecture;
  architecture.layers = 1;
  architecture.hidden = 8, architecture.intermediate = 12, architecture.heads = 2;
  architecture.kv_heads = 1, architecture.head_dim = 4;
  const std::string up = "model.layers.0.mlp.up_proj.weight",
                    k = "model.layers.0.self_attn.k_proj.weight";
  const auto fitting =
      fitting_targets({{up, std::vector<float>(8, 1)}, {k, {1, 1, 1, 1}}}, architecture, "e", "m");
  ASSERT_EQ(fitting.size(), 2u);
  EXPECT_EQ(fitting[0].name, k);  // in forward order, with offsets of their own
  EXPECT_EQ(fitting[1].offset, 4);
  try {
    fitting_targets({{up, std::vector<float>(8, 1)},
                     {k, std::vector<float>(5, 1)},
                     {"model.layers.7.mlp.up_proj.weight", {1}}},
                    architecture, "e", "m");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), testing::HasSubstr("'" + k + "' with 5 scales"));
    EXPECT_THAT(error.what(), testing::HasSubstr("layers.7"));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("layers.0.mlp")));
  }
}

}  // namespace
}  // namespace svfleet
