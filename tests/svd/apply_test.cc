// Three z gradients and finite differences, on single matrices in float64 and float32.
#include "svd/apply.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "svd/factor.h"

namespace svfleet {
namespace {

struct Case {
  int64_t rows, cols;
  bool bias;
};
const Case kCases[] = {
    {24, 10, false}, {24, 10, true}, {10, 24, false}, {10, 24, true}, {16, 16, true}};

Target target_of(const Case& c) {
  return {"w", "up_proj", 0, c.rows, c.cols, c.cols <= c.rows ? Form::kRight : Form::kLeft, 0};
}

// A layer with what it needs, all in one type. z holds zero and negative entries.
struct Layer {
  Target target;
  at::Tensor x, w, bias, q, d, merged;

  Layer(const Case& c, at::ScalarType type) : target(target_of(c)) {
    at::manual_seed(c.rows * 100 + c.cols + c.bias);
    x = at::randn({7, c.cols}, at::kDouble).to(type);
    at::Tensor wide = at::randn({c.rows, c.cols}, at::kDouble);
    if (c.bias) bias = at::randn({c.rows}, at::kDouble).to(type);
    d = 0.3 * at::randn({target.length()}, at::kDouble);
    d[0] = -1.0;   // z = 0
    d[1] = -1.75;  // z < 0
    d = d.to(type);
    w = wide.to(type);
    // An orthogonal Q to the last digit of float64: the identities hold exactly there.
    auto [values, vectors] =
        at::linalg_eigh(c.cols <= c.rows ? wide.t().mm(wide) : wide.mm(wide.t()));
    q = vectors.to(type).contiguous();
    merged = at::empty_like(w);
    merge(target.form, w, q, d, merged);
  }
};

// Some loss of y with a different weight everywhere.
at::Tensor loss_of(const at::Tensor& y) {
  at::Tensor weight = at::arange(y.numel(), y.options()).view_as(y).sin();
  return (y * weight).sum() + y.tanh().sum();
}

at::Tensor finite_differences(const Layer& layer) {
  at::Tensor out = at::empty_like(layer.d);
  const double h = 1e-5;
  for (int64_t i = 0; i < layer.d.numel(); ++i) {
    auto at_step = [&](double step) {
      at::Tensor d = layer.d.clone(), merged = at::empty_like(layer.w);
      d[i] += step;
      merge(layer.target.form, layer.w, layer.q, d, merged);
      return loss_of(at::linear(layer.x, merged, layer.bias)).item<double>();
    };
    out[i] = (at_step(h) - at_step(-h)) / (2 * h);
  }
  return out;
}

// y = W'x + bias by what z adds to the activations.
at::Tensor by_change(const Layer& layer, const at::Tensor& x, const at::Tensor& d) {
  if (layer.target.form == Form::kRight)
    return at::linear(x + scaled_in_basis(x, layer.q, d), layer.w, layer.bias);
  at::Tensor y = at::linear(x, layer.w);
  y = y + scaled_in_basis(y, layer.q, d);
  return layer.bias.defined() ? y + layer.bias : y;
}

struct Gradients {
  at::Tensor dz, dx;
};

Gradients by_activation(const Layer& layer) {
  at::Tensor d = layer.d.clone().requires_grad_(true), x = layer.x.clone().requires_grad_(true);
  loss_of(by_change(layer, x, d)).backward();
  return {d.grad(), x.grad()};
}

Gradients by_closed_form(const Layer& layer) {
  at::Tensor d = layer.d.clone().requires_grad_(true), x = layer.x.clone().requires_grad_(true);
  loss_of(merged_linear_closed_form(layer.target.form, x, layer.w, layer.merged, layer.bias,
                                    layer.q, d))
      .backward();
  return {d.grad(), x.grad()};
}

// The full weight gradient, projected: dz_i = (Q^T W^T dW Q)_ii or (Q^T dW W^T Q)_ii.
Gradients by_weight_gradient(const Layer& layer) {
  at::Tensor w = layer.merged.clone().requires_grad_(true),
             x = layer.x.clone().requires_grad_(true);
  loss_of(at::linear(x, w, layer.bias)).backward();
  at::Tensor inner =
      layer.target.form == Form::kRight ? layer.w.t().mm(w.grad()) : w.grad().mm(layer.w.t());
  return {at::diag(layer.q.t().mm(inner).mm(layer.q)), x.grad()};
}

double gap(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

TEST(ZGradient, AgreesWithFiniteDifferencesInFloat64) {
  for (const Case& c : kCases) {
    Layer layer(c, at::kDouble);
    at::Tensor truth = finite_differences(layer);
    EXPECT_LT(gap(by_activation(layer).dz, truth), 1e-7);
    EXPECT_LT(gap(by_closed_form(layer).dz, truth), 1e-7);
    EXPECT_LT(gap(by_weight_gradient(layer).dz, truth), 1e-7);
  }
}

TEST(ZGradient, ThreeFormsAgreeInFloat32) {
  for (const Case& c : kCases) {
    Layer layer(c, at::kFloat);
    Gradients truth = by_weight_gradient(layer);
    for (const Gradients& g : {by_activation(layer), by_closed_form(layer)}) {
      EXPECT_LT(gap(g.dz, truth.dz), 1e-4);
      EXPECT_LT(gap(g.dx, truth.dx), 1e-4);
    }
  }
}

// Controls: the silent traps of this gradient are far outside these tolerances.
TEST(ZGradient, TheComparisonNoticesTheTraps) {
  Layer layer({10, 24, true}, at::kDouble);  // left form with a bias
  at::Tensor truth = finite_differences(layer);
  at::Tensor y = at::linear(layer.x, layer.merged, layer.bias).requires_grad_(true);
  loss_of(y).backward();
  at::Tensor g = y.grad();
  auto left = [&](const at::Tensor& output) { return (g.mm(layer.q) * output.mm(layer.q)).sum(0); };
  at::Tensor plain = at::linear(layer.x, layer.w);
  EXPECT_LT(gap(left(plain), truth), 1e-7);
  EXPECT_GT(gap(left(plain + layer.bias), truth), 0.05);                 // bias left in y
  EXPECT_GT(gap(left(at::linear(layer.x, layer.merged)), truth), 0.05);  // not divided by z
}

TEST(Apply, EveryRowMayHaveItsOwnZ) {
  for (const Case& c : kCases) {
    Layer layer(c, at::kDouble);
    at::Tensor d = 0.2 * at::randn({7, layer.target.length()}, at::kDouble);
    at::Tensor together = by_change(layer, layer.x, d);
    for (int64_t row = 0; row < 7; ++row) {
      at::Tensor merged = at::empty_like(layer.w);
      merge(layer.target.form, layer.w, layer.q, d[row], merged);
      EXPECT_LT(gap(together[row], at::linear(layer.x[row], merged, layer.bias)), 1e-12);
    }
  }
}

}  // namespace
}  // namespace svfleet
