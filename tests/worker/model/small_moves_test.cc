// Moves of z of a thousandth arrive in bfloat16: of each kind of matrix, in each form, with and
// without a bias, at the product's output and after the residual.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <random>

#include "tests/worker/model/fixtures.h"
#include "worker/model/operations.h"

namespace svfleet {
namespace {

constexpr int64_t kRows = 1024;

// <change, exact> / |exact|^2: 1 where the whole change has arrived.
double gain(const at::Tensor& change, const at::Tensor& exact) {
  const at::Tensor c = change.to(at::kDouble).flatten(), e = exact.to(at::kDouble).flatten();
  return (c.dot(e) / e.dot(e)).item<double>();
}

// One matrix of `rows` x `cols` with an expert that moves each component by up to a thousandth.
struct Move {
  Target target;
  Linear linear;
  at::Tensor q, d, x, exact_weight, bias;

  Move(const std::string& kind, int64_t rows, int64_t cols, bool biased) {
    at::manual_seed(7);
    target = {"w", kind, 0, rows, cols, cols <= rows ? Form::kRight : Form::kLeft, 0};
    const at::Tensor w = (at::randn({rows, cols}) / std::sqrt(double(cols))).to(at::kBFloat16);
    const Factor factor = decompose(target, w, at::kFloat);
    q = factor.q;
    d = (at::rand({target.length()}) * 2 - 1) * 1e-3;
    x = at::randn({kRows, cols}).to(at::kBFloat16);  // on the grid: a norm of weight 1, or no norm
    linear.weight = Matrix(w);
    if (biased) linear.bias = at::randn({rows}).to(at::kBFloat16);
    const at::Tensor c = (q * d).mm(q.t()).to(at::kDouble), wide = w.to(at::kDouble);
    exact_weight = target.form == Form::kRight ? wide.mm(c) : c.mm(wide);
  }
};

struct Shape {
  const char* kind;
  int64_t rows, cols;
  bool biased;
};
// Each kind in each form that it can have: square, wide and high.
const Shape kShapes[] = {
    {"q_proj", 96, 96, false},     {"q_proj", 96, 96, true},    {"q_proj", 64, 96, true},
    {"k_proj", 32, 96, false},     {"k_proj", 32, 96, true},    {"v_proj", 32, 96, true},
    {"v_proj", 96, 96, true},      {"o_proj", 96, 64, false},   {"o_proj", 64, 96, false},
    {"gate_proj", 192, 96, false}, {"up_proj", 192, 96, false}, {"down_proj", 96, 192, false}};

// The same products as Adapter::product's, on a matrix of its own.
at::Tensor activation_form(const Move& m, uint64_t key) {
  const Matrix q(m.q.to(at::kBFloat16));
  if (m.target.form == Form::kRight) {
    at::Tensor keys = at::empty({kRows}, at::kLong);
    for (int64_t i = 0; i < kRows; ++i) keys.data_ptr<int64_t>()[i] = int64_t(key) * 7919 + i;
    const at::Tensor change = q.times_wide(scale_rows(q.back_wide(m.x), m.d, {}, at::kBFloat16));
    return m.linear.weight.times(add_keyed(m.x, change, keys), {.bias = m.linear.bias});
  }
  const at::Tensor y = m.linear.weight.times_wide(m.x);
  const at::Tensor in_basis = q.back_wide(rounded(y, at::kBFloat16));
  return q.times(scale_rows(in_basis, m.d, {}, at::kBFloat16), {y, m.linear.bias});
}

// As first built: added to what is rounded already.
at::Tensor as_first_built(const Move& m) {
  const at::Tensor q = m.q.to(at::kBFloat16), w = m.linear.weight.plain();
  const auto change = [&](const at::Tensor& x) {
    return (x.mm(q).to(at::kFloat) * m.d).to(at::kBFloat16).mm(q.t());
  };
  at::Tensor y = m.target.form == Form::kRight ? (m.x + change(m.x)).mm(w.t()) : m.x.mm(w.t());
  if (m.target.form == Form::kLeft) y = y + change(y);
  return m.linear.bias.defined() ? y + m.linear.bias : y;
}

TEST(SmallMoves, ArriveInTheActivationForm) {
  for (const Shape& shape : kShapes) {
    const Move m(shape.kind, shape.rows, shape.cols, shape.biased);
    const at::Tensor exact = m.x.to(at::kDouble).mm(m.exact_weight.t());
    const at::Tensor before = m.linear.weight.times(m.x, {.bias = m.linear.bias});
    double sum = 0, residual = 0, old = 0;
    constexpr int kTimes = 8;
    const at::Tensor h = at::randn({kRows, shape.rows}).to(at::kBFloat16);
    const auto after = [&](const at::Tensor& y) {
      const at::Tensor out = h.clone();
      add_to(out, y);
      return out.to(at::kFloat);
    };
    for (int i = 0; i < kTimes; ++i) {
      const at::Tensor y = activation_form(m, uint64_t(i));
      sum += gain(y.to(at::kFloat) - before.to(at::kFloat), exact) / kTimes;
      residual += gain(after(y) - after(before), exact) / kTimes;
    }
    old = gain(as_first_built(m).to(at::kFloat) - before.to(at::kFloat), exact);
    std::cout << shape.kind << " " << shape.rows << "x" << shape.cols
              << (shape.biased ? " with bias" : "") << ", " << form_name(m.target.form) << ": gain "
              << sum << ", after the residual " << residual << ", as first built " << old << "\n";
    EXPECT_NEAR(sum, 1, 0.1) << shape.kind;
    EXPECT_NEAR(residual, 1, 0.15) << shape.kind;
  }
}

TEST(SmallMoves, ArriveInMergedWeights) {
  for (const char* name : kTinyModels) {
    Adapted s(name, at::kBFloat16);
    std::mt19937 random(3);
    for (float& z : s.z) z += 1e-3f * (float(random() % 2001) / 1000 - 1);
    const Merged merged(s.weights, s.basis, s.z);
    EXPECT_NEAR(merged.gain(), 1, 0.1) << name;
    double loss = 0;  // control: to the nearest most of it is lost
    for (size_t t = 0; t < s.basis.targets().size(); ++t) {
      const Target& target = s.basis.targets()[t];
      const at::Tensor w =
          read_weight(s.weights.files(), target.name, {target.rows, target.cols}, at::kBFloat16);
      const at::Tensor q = s.basis.q(t).plain().to(at::kFloat),
                       c = (q * s.basis.change_of(t, s.z)).mm(q.t()), wide = w.to(at::kFloat);
      const at::Tensor exact = target.form == Form::kRight ? wide.mm(c) : c.mm(wide);
      loss += gain((wide + exact).to(at::kBFloat16).to(at::kFloat) - wide, exact) /
              double(s.basis.targets().size());
    }
    std::cout << name << ": gain " << merged.gain() << ", to the nearest " << loss << "\n";
    EXPECT_LT(loss, 0.6) << name;
  }
}

}  // namespace
}  // namespace svfleet
