// The kernels' way through a layer and libtorch's, which a GPU takes, against each other on the
// CPU: two implementations of one meaning.
#include "worker/model/operations.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <iostream>

#include "tests/worker/model/fixtures.h"
#include "worker/model/gpu_operations.h"

namespace svfleet {
namespace {

const at::ScalarType kTypes[] = {at::kDouble, at::kFloat, at::kBFloat16};

at::Tensor some(std::vector<int64_t> shape, at::ScalarType type) {
  return at::randn(shape, at::kDouble).to(type);
}
at::ScalarType wide(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// In float64 to its last digits; in bfloat16 to a rounding of the largest value.
void expect_close(const at::Tensor& a, const at::Tensor& b, const char* what) {
  const double bound = a.scalar_type() == at::kDouble     ? 1e-12
                       : a.scalar_type() == at::kBFloat16 ? 0.01
                                                          : 2e-6;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  EXPECT_LT(((x - y).abs().max() / y.abs().max()).item<double>(), bound) << what;
}

TEST(Operations, NormAndItsGradient) {
  at::manual_seed(1);
  for (const at::ScalarType type : kTypes) {
    const at::Tensor x = some({5, 72}, type), w = some({72}, type), d = some({5, 72}, wide(type));
    at::Tensor ours, theirs;
    expect_close(rms_norm(x, w, 1e-5, &ours), gpu::rms_norm(x, w, 1e-5, &theirs), "norm");
    expect_close(ours, theirs, "inverse");
    const at::Tensor a = some({5, 72}, wide(type)), b = a.clone();
    rms_norm_gradient(x, w, ours, d, a);
    gpu::rms_norm_gradient(x, w, theirs, d, b);
    expect_close(a, b, "norm's gradient");
  }
}

TEST(Operations, RotaryAndGate) {
  at::manual_seed(2);
  for (const at::ScalarType type : kTypes) {
    const std::vector<int64_t> positions = {0, 3, 9, 40};
    const Angles by = angles(positions, {1, 0.5, 0.1, 0.01}, 1, wide(type), at::kCPU);
    const at::Tensor x = some({4, 24}, type), y = x.clone();
    rotate(x, by, 8);
    gpu::rotate(y, by, 8);
    expect_close(x, y, "rotary");
    const at::Tensor d = some({4, 24}, wide(type)), e = d.clone();
    rotate_gradient(d, by, 8);
    gpu::rotate_gradient(e, by, 8);
    expect_close(d, e, "rotary's gradient");
    const at::Tensor gate = some({4, 40}, type), up = some({4, 40}, type);
    expect_close(gate_product(gate, up), gpu::gate_product(gate, up), "gate");
    const at::Tensor d_out = some({4, 40}, wide(type));
    at::Tensor a, b, p, q;
    gate_product_gradient(gate, up, d_out, &a, &b);
    gpu::gate_product_gradient(gate, up, d_out, &p, &q);
    expect_close(a, p, "gate's gradient");
    expect_close(b, q, "up's gradient");
  }
}

// Keyed roundings are the same numbers everywhere, not only close.
TEST(Operations, KeyedRoundingsAreTheSameBits) {
  at::manual_seed(3);
  at::Tensor keys = at::empty({6}, at::kLong);
  for (int64_t i = 0; i < 6; ++i) keys.data_ptr<int64_t>()[i] = -7919 * i * i + 13;
  const at::Tensor x = some({6, 75}, at::kBFloat16), change = some({6, 75}, at::kFloat) * 0.01;
  const at::Tensor ours = add_keyed(x, change, keys);
  EXPECT_TRUE(at::equal(ours, gpu::add_keyed(x, change, keys)));
  EXPECT_TRUE(at::equal(add_keyed(x, at::zeros_like(change), keys), x));
  EXPECT_FALSE(at::equal(ours, add_keyed(x, change, keys + 1)));  // control
  const at::Tensor f = some({6, 75}, at::kFloat);
  EXPECT_TRUE(at::equal(add_keyed(f, change, keys), f + change));
}

TEST(Operations, ScalesAndSums) {
  at::manual_seed(4);
  const at::Tensor x = some({9, 20}, at::kFloat), d = some({3, 20}, at::kFloat);
  const at::Tensor entry = at::tensor({0, 2, 1, 1, 0, 2, 2, 1, 0}, at::kInt);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    EXPECT_TRUE(at::equal(scale_rows(x, d, entry, type), gpu::scale_rows(x, d, entry, type)));
    EXPECT_TRUE(at::equal(scale_rows(x, d[1], {}, type), gpu::scale_rows(x, d[1], {}, type)));
  }
  const at::Tensor y = some({9, 20}, at::kFloat);
  std::vector<double> a(20, 1), b(20, 1);
  add_products(x, y, 2, 7, a.data());
  gpu::add_products(x, y, 2, 7, b.data());
  for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(a[i], b[i], 1e-5);
}

// Attention of a tree with a shared prompt, and its gradient, through pages and through tensors.
TEST(Operations, AttentionAndItsGradient) {
  at::manual_seed(5);
  for (const at::ScalarType type : kTypes) {
    const Weights weights(tiny_folder("tiny_llama3"), type);
    const Architecture& arch = weights.architecture();
    const int64_t n = 47, heads = arch.heads, kv = arch.kv_heads, d = arch.head_dim;
    PagePool pool(weights);
    const TreePass tree({{std::vector<int>(size_t(n), 1), -1, 1}}, pool);
    const at::Tensor q = some({n, heads * d}, type), k = some({n, kv * d}, type),
                     v = some({n, kv * d}, type), d_out = some({n, heads * d}, type);
    pool.store(0, tree.pass(), k, v);
    at::Tensor log_sum;
    const at::Tensor out = pool.attend(0, tree.pass(), q, &log_sum);
    const PagePool::Gradient ours = pool.attend_gradient(0, tree.pass(), q, out, log_sum, d_out);
    const auto by_head = [&](const at::Tensor& t) { return t.view({n, -1, d}); };
    const double scale = 1 / std::sqrt(double(d));
    const gpu::Attended theirs = gpu::attend(by_head(q), by_head(k), by_head(v), 1, scale);
    expect_close(by_head(out), theirs.out, "attention");
    expect_close(log_sum, theirs.log_sum, "log sum");
    const gpu::AttendedGradient gradient = gpu::attend_gradient(
        by_head(q), by_head(k), by_head(v), {by_head(out), log_sum}, by_head(d_out), 1, scale);
    expect_close(by_head(ours.d_q), gradient.d_q, "d_q");
    expect_close(by_head(ours.d_k), gradient.d_k, "d_k");
    expect_close(by_head(ours.d_v), gradient.d_v, "d_v");
    // A decoding step's way on a GPU: each row its own keys.
    const at::Tensor count = at::arange(1, n + 1, at::kLong);
    const at::Tensor each = gpu::attend_each(by_head(q), by_head(k).expand({n, n, kv, d}),
                                             by_head(v).expand({n, n, kv, d}), count, scale);
    expect_close(by_head(out), each, "a decoding step");
  }
}

// A row of a tree and the same row as a decoding step: our attention gives both the same bits.
// Control: libtorch's does not, so that a layer of it would show.
TEST(Operations, ATreesRowIsADecodingStepsToTheBit) {
  at::manual_seed(6);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Weights weights(tiny_folder("tiny_llama3"), type);
    const Architecture& arch = weights.architecture();
    const int64_t n = 150, heads = arch.heads, kv = arch.kv_heads, d = arch.head_dim;
    PagePool pool(weights);
    const TreePass tree({{std::vector<int>(size_t(n), 1), -1, 1}}, pool);
    const at::Tensor q = some({n, heads * d}, type), k = some({n, kv * d}, type),
                     v = some({n, kv * d}, type);
    pool.store(0, tree.pass(), k, v);
    const at::Tensor together = pool.attend(0, tree.pass(), q);
    const auto sdpa = [&](int64_t from, int64_t rows, bool causal) {  // [heads, rows, d]
      const auto by_head = [&](const at::Tensor& t, int64_t count) {
        const at::Tensor x = t.narrow(0, 0, count).view({count, -1, d}).transpose(0, 1);
        return x.repeat_interleave(heads / x.size(0), 0).unsqueeze(0);
      };
      const at::Tensor queries =
          q.narrow(0, from, rows).view({rows, heads, d}).transpose(0, 1).unsqueeze(0);
      return at::scaled_dot_product_attention(queries, by_head(k, from + rows),
                                              by_head(v, from + rows), {}, 0.0, causal)[0];
    };
    const at::Tensor theirs = sdpa(0, n, true);
    int64_t differing = 0;
    for (int64_t row = 0; row < n; ++row) {
      Pass step;
      step.tokens = {1};
      step.positions = {row};
      step.entries = {1};
      step.pages = {&tree.pages(0)};
      EXPECT_TRUE(at::equal(pool.attend(0, step, q.narrow(0, row, 1)), together.narrow(0, row, 1)));
      differing += sdpa(row, 1, false).select(1, 0).ne(theirs.select(1, row)).sum().item<int64_t>();
    }
    EXPECT_GT(differing, 0);
    std::cout << type << ": libtorch's attention differs in " << differing << " of "
              << theirs.numel() << " numbers\n";
  }
}

}  // namespace
}  // namespace svfleet
