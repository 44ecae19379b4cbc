// Every core besides the diagonal one, in whole models: its gradient against libtorch's autograd
// through a decoder of its own in float64, its start, its forms, its rows and its small moves.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>

#include "tests/worker/model/fixtures.h"
#include "tests/worker/model/plain_loss.h"

namespace svfleet {
namespace {

struct Kind {
  const char* name;
  CoreOptions options;
  std::vector<std::string> targets;
  double spread = 0.1;  // of p in most tests
};
const Kind kKinds[] = {
    {"block", {.kind = CoreKind::kBlock, .components = {Components::kTop, 6}}, {"all"}},
    {"bottom block",
     {.kind = CoreKind::kBlock, .components = {Components::kBottom, 3}},
     {"all"},
     0.01},
    {"tiny", {.kind = CoreKind::kTiny, .components = {Components::kTop, 2}, .numbers = 5}, {"all"}},
    {"bias", {.kind = CoreKind::kBias}, {"down_proj"}},
    {"lora", {.kind = CoreKind::kLora, .rank = 3, .alpha = 6}, {"all"}},
    {"lora of rank 1", {.kind = CoreKind::kLora, .rank = 1, .alpha = 32}, {"mlp"}, 0.02},
    {"ia3", {.kind = CoreKind::kIa3}, {"k_proj", "v_proj", "down_proj"}},
};
constexpr Apply kForms[] = {Apply::kActivation, Apply::kMerged};

std::unique_ptr<Basis> basis_of(const Weights& weights, const Kind& kind) {
  if (Core::is_decomposed(kind.options.kind))
    return std::make_unique<Basis>(decompose_all(weights, kind.targets), weights, kind.options);
  const Architecture& arch = weights.architecture();
  return std::make_unique<Basis>(
      choose_targets(kind.targets, "all", arch.layers, arch.linear_shapes()), weights,
      kind.options);
}

struct Setting {
  Weights weights;
  const std::unique_ptr<const Basis> basis;
  const std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;
  std::vector<float> p;

  Setting(const std::string& model, const Kind& kind, at::ScalarType type)
      : Setting(model, kind, type, kind.spread) {}
  Setting(const std::string& model, const Kind& kind, at::ScalarType type, double spread)
      : weights(tiny_folder(model), type),
        basis(basis_of(weights, kind)),
        prompts({ids(9, 1), ids(12, 2)}),
        replies({ids(6, 3), ids(1, 4), ids(9, 5), ids(4, 6)}),
        groups({{&prompts[0], {{&replies[0], 0.7}, {&replies[1], -1.1}}},
                {&prompts[1], {{&replies[2], -0.4}, {&replies[3], 0.9}}}}),
        p(basis->core().start()) {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, spread);
    if (spread > 0)
      for (float& x : p) x += float(normal(random));
  }

  std::vector<float> z() const { return basis->core().coefficients_of(p); }
  Adapter adapter(Apply apply) {
    table_ = std::make_unique<ExpertTable>(*basis);
    table_->add(z());
    if (apply == Apply::kMerged) merged_ = Merged(weights, *basis, z());
    return {apply, table_.get(), &merged_};
  }
  GradientResult gradient(Apply apply) { return z_gradient(weights, adapter(apply), groups, {}); }
  ReplyLogProbs log_probs(Apply apply) {
    return reply_log_probs(weights, adapter(apply), groups, 1);
  }

 private:
  static std::vector<int> ids(size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<int> all(n);
    for (int& id : all) id = int(random() % 250);
    return all;
  }
  std::unique_ptr<ExpertTable> table_;
  Merged merged_;
};

// As the papers write it down: W' and bias' of every target from leaves of the graph, which are the
// coefficients [length] of each.
void adapt(PlainDecoder& plain, const Basis& basis, const std::vector<at::Tensor>& leaves) {
  const Core& core = basis.core();
  for (size_t t = 0; t < leaves.size(); ++t) {
    const Target& target = basis.targets()[t];
    at::Tensor &w = plain.matrix(target), &bias = plain.bias(target);
    const at::Tensor& c = leaves[t];
    switch (core.kind()) {
      case CoreKind::kDiagonal:
        FAIL();
      case CoreKind::kBlock:
      case CoreKind::kTiny: {
        const int64_t k = core.chosen(t).count;
        const at::Tensor q = basis.q(t).plain().to(at::kDouble);
        const at::Tensor change = q.mm(c.view({k, k})).mm(q.t());
        w = target.form == Form::kRight ? w + w.mm(change) : w + change.mm(w);
        break;
      }
      case CoreKind::kBias:
        bias = bias.defined() ? bias + c : c;
        break;
      case CoreKind::kLora: {
        const int64_t r = core.options().rank, split = r * target.cols;
        const at::Tensor a = c.narrow(0, 0, split).view({r, target.cols}),
                         b = c.narrow(0, split, target.rows * r).view({target.rows, r});
        w = w + core.options().alpha / double(r) * b.mm(a);
        break;
      }
      case CoreKind::kIa3:
        if (target.kind == "down_proj") {
          w = w * c;
        } else {
          w = w * c.unsqueeze(1);
          if (bias.defined()) bias = bias * c;
        }
        break;
    }
  }
}

std::vector<at::Tensor> leaves_of(const Basis& basis, const std::vector<float>& z) {
  std::vector<at::Tensor> leaves;
  for (const Core::Part& part : basis.core().parts()) {
    leaves.push_back(at::empty({part.length}, at::kDouble));
    for (int64_t i = 0; i < part.length; ++i)
      leaves.back().data_ptr<double>()[i] = z[size_t(part.offset + i)];
  }
  return leaves;
}

std::vector<double> plain_gradient(const Setting& s, const ReplyGroup& group) {
  std::vector<at::Tensor> leaves = leaves_of(*s.basis, s.z()), gradients;
  for (at::Tensor& leaf : leaves) leaf.requires_grad_(true);
  PlainDecoder policy(s.weights);
  adapt(policy, *s.basis, leaves);
  plain_loss(s.weights, policy, group, 1, KlLoss::kNone).backward();
  for (const at::Tensor& leaf : leaves) gradients.push_back(leaf.grad());
  return flat(gradients);
}

double plain_loss_at(const Setting& s, const ReplyGroup& group, const std::vector<float>& p) {
  PlainDecoder policy(s.weights);
  adapt(policy, *s.basis, leaves_of(*s.basis, s.basis->core().coefficients_of(p)));
  return plain_loss(s.weights, policy, group, 1, KlLoss::kNone).item<double>();
}

TEST(Cores, GradientIsAutogradsInFloat64) {
  for (const Kind& kind : kKinds)
    for (const char* model : kTinyModels) {
      Setting s(model, kind, at::kDouble);
      for (const Apply form : kForms) {
        const GradientResult ours = s.gradient(form);
        for (size_t g = 0; g < s.groups.size(); ++g)
          EXPECT_LT(gap(ours.dz[g], plain_gradient(s, s.groups[g])), 1e-6)
              << kind.name << ", " << model << ", form " << int(form);
      }
    }
}

// From end to end, by finite differences along a direction in p: dL/dp of all groups' sums.
TEST(Cores, GradientOfPIsThatOfFiniteDifferences) {
  for (const Kind& kind : kKinds) {
    Setting s("tiny_qwen2", kind, at::kDouble);
    const GradientResult ours = s.gradient(Apply::kActivation);
    const std::vector<float> dp =
        s.basis->core().chain_to_p(s.p, std::vector<double>(ours.dz[0].begin(), ours.dz[0].end()));
    std::mt19937 random(5);
    for (int times = 0; times < 3; ++times) {
      // Along the gradient with some noise: a random direction alone has little of it.
      double norm = 0, along = 0, wrong = 0;
      for (const float x : dp) norm += double(x) * x;
      norm = std::sqrt(norm);
      std::vector<float> up = s.p, down = s.p;
      std::normal_distribution<double> normal(0, 0.3 / std::sqrt(double(dp.size())));
      for (size_t i = 0; i < dp.size(); ++i) {
        const auto step = float(2e-2 * kind.spread * (double(dp[i]) / norm + normal(random)));
        up[i] += step, down[i] -= step;
        const double moved = double(up[i]) - double(down[i]);
        along += moved * dp[i];
        wrong += moved * dp[dp.size() - 1 - i];
      }
      const double truth = plain_loss_at(s, s.groups[0], up) - plain_loss_at(s, s.groups[0], down);
      EXPECT_NEAR(along / truth, 1, 5e-3) << kind.name;
      EXPECT_GT(std::abs(wrong / truth - 1), 0.05) << kind.name;  // control
    }
  }
}

TEST(Cores, TheComparisonNoticesMistakes) {
  for (const Kind& kind : kKinds) {
    Setting s("tiny_qwen2", kind, at::kDouble);
    const std::vector<double> truth = plain_gradient(s, s.groups[0]);
    EXPECT_GT(gap(s.gradient(Apply::kActivation).dz[1], truth), 0.05) << kind.name;
    std::rotate(s.p.begin(), s.p.begin() + 1, s.p.end());
    EXPECT_GT(gap(s.gradient(Apply::kActivation).dz[0], truth), 1e-3) << kind.name;
  }
}

TEST(Cores, GradientIsCloseInNarrowerTypes) {
  for (const Kind& kind : kKinds)
    for (const Apply form : kForms) {
      Setting s("tiny_qwen2", kind, at::kFloat), b("tiny_qwen2", kind, at::kBFloat16);
      EXPECT_LT(gap(s.gradient(form).dz[0], plain_gradient(s, s.groups[0])), 2e-4) << kind.name;
      // What is left of Q^T (W x) at the least singular values is the rounding of W x.
      if (kind.options.components.which == Components::kBottom) continue;
      EXPECT_GT(cosine(b.gradient(form).dz[0], plain_gradient(b, b.groups[0])), 0.97) << kind.name;
    }
}

TEST(Cores, StartAtTheBaseBitForBit) {
  for (const Kind& kind : kKinds)
    for (const char* model : kTinyModels)
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        Setting s(model, kind, type, 0), moved(model, kind, type);
        for (const Apply form : kForms) {
          EXPECT_EQ(s.log_probs(form), s.log_probs(Apply::kFrozen)) << kind.name << ", " << model;
          EXPECT_NE(moved.log_probs(form), s.log_probs(Apply::kFrozen)) << kind.name;  // control
        }
      }
}

TEST(Cores, MergedAndActivationAreTheSame) {
  for (const Kind& kind : kKinds)
    for (const char* model : kTinyModels) {
      Setting s(model, kind, at::kFloat);
      const auto merged = s.log_probs(Apply::kMerged), activation = s.log_probs(Apply::kActivation),
                 frozen = s.log_probs(Apply::kFrozen);
      double apart = 0, from_base = 0;
      for (size_t g = 0; g < merged.size(); ++g)
        for (size_t r = 0; r < merged[g].size(); ++r)
          for (size_t t = 0; t < merged[g][r].size(); ++t) {
            apart = std::max(apart, double(std::abs(merged[g][r][t] - activation[g][r][t])));
            from_base = std::max(from_base, double(std::abs(merged[g][r][t] - frozen[g][r][t])));
          }
      // On the left C is sigma_i / sigma_j times R, and so is the rounding of what it multiplies.
      const bool bottom = kind.options.components.which == Components::kBottom;
      EXPECT_LT(apart, bottom ? 1e-3 : 2e-4) << kind.name << ", " << model;
      EXPECT_GT(from_base, 0.01) << kind.name;  // control
    }
}

// A group's bits are its own, in both forms; rows of several entries get what they get alone.
TEST(Cores, GroupsAndRowsAreTheirOwn) {
  for (const Kind& kind : kKinds)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Setting s("tiny_qwen2", kind, type);
      for (const Apply form : kForms) {
        const Adapter adapter = s.adapter(form);
        const GradientResult together = z_gradient(s.weights, adapter, s.groups, {});
        for (size_t g = 0; g < s.groups.size(); ++g)
          EXPECT_EQ(z_gradient(s.weights, adapter, {s.groups[g]}, {}).dz[0], together.dz[g]);
      }
      ExpertTable table(*s.basis);
      for (int entry = 1; entry < 4; ++entry) {
        std::rotate(s.p.begin(), s.p.begin() + 1, s.p.end());
        table.add(s.z());
      }
      const Adapter adapter(Apply::kActivation, &table, nullptr);
      std::vector<ReplyGroup> mixed;
      for (int i = 0; i < 8; ++i) {
        mixed.push_back(s.groups[size_t(i) % 2]);
        mixed.back().entry = i % 4;
      }
      const auto together = reply_log_probs(s.weights, adapter, mixed, 1);
      for (size_t i = 0; i < mixed.size(); ++i)
        EXPECT_EQ(reply_log_probs(s.weights, adapter, {mixed[i]}, 1)[0], together[i]) << kind.name;
      EXPECT_EQ(together[0],
                reply_log_probs(s.weights, Adapter(), {s.groups[0]}, 1)[0]);  // entry 0: the base
      EXPECT_NE(together[2], together[0]);  // control: another entry
    }
}

// <change, exact> / |exact|^2: 1 where the whole change has arrived.
double gain(const at::Tensor& change, const at::Tensor& exact) {
  const at::Tensor c = change.to(at::kDouble).flatten(), e = exact.to(at::kDouble).flatten();
  return (c.dot(e) / e.dot(e)).item<double>();
}

// Moves of a thousandth of every parameter, at every target's output, on rows of the bfloat16 grid.
TEST(Cores, SmallMovesArrive) {
  constexpr int64_t kRows = 512;
  for (const Kind& kind : kKinds)
    for (const char* model : {"tiny_qwen2", "tiny_llama3"}) {
      Setting s(model, kind, at::kBFloat16, 0);
      std::vector<int64_t> positions(kRows);
      for (int64_t i = 0; i < kRows; ++i) positions[size_t(i)] = i;
      const Rows rows(std::vector<int>(kRows, kOnlyExpert), positions, at::kCPU);
      const std::vector<float> start = s.p;
      std::vector<double> sums(2, 0);
      double lost = 0;
      constexpr int kTimes = 4;
      const auto targets = s.basis->targets();
      for (int times = 0; times < kTimes; ++times) {
        std::mt19937 random{unsigned(times)};
        for (size_t i = 0; i < s.p.size(); ++i)
          s.p[i] = start[i] + 1e-3f * (random() % 2 ? 1.0f : -1.0f);
        PlainDecoder before(s.weights), after(s.weights);
        adapt(after, *s.basis, leaves_of(*s.basis, s.z()));
        for (const Apply form : kForms) {
          const Adapter adapter = s.adapter(form);
          for (size_t t = 0; t < targets.size(); ++t) {
            at::manual_seed(7);
            const at::Tensor x = at::randn({kRows, targets[t].cols}).to(at::kBFloat16);
            const auto exact = [&](PlainDecoder& of) {
              const at::Tensor y = x.to(at::kDouble).mm(of.matrix(targets[t]).t());
              return of.bias(targets[t]).defined() ? y + of.bias(targets[t]) : y;
            };
            const auto& kinds = linear_kinds();
            const int j =
                int(std::find(kinds.begin(), kinds.end(), targets[t].kind) - kinds.begin());
            const Linear& linear = s.weights.layer(targets[t].layer).linears[j];
            const at::Tensor was = linear.weight.times(x, {.bias = linear.bias}).to(at::kDouble),
                             is = adapter.product(int(t), linear, x, rows).to(at::kDouble),
                             wanted = exact(after) - exact(before);
            const double share = 1.0 / double(targets.size() * kTimes);
            sums[form == Apply::kMerged] += share * gain(is - was, wanted);
            // Control: what is added to a rounded weight, or input, to the nearest.
            if (form != Apply::kMerged) continue;
            const at::Tensor w = after.matrix(targets[t]).to(at::kBFloat16).to(at::kDouble),
                             moved = after.matrix(targets[t]) - before.matrix(targets[t]);
            if (moved.count_nonzero().item<int64_t>())
              lost += share * gain(w - before.matrix(targets[t]), moved);
          }
        }
      }
      std::cout << kind.name << ", " << model << ": gain " << sums[0] << " in activations, "
                << sums[1] << " merged; weights to the nearest " << lost << "\n";
      for (const double of : sums) EXPECT_NEAR(of, 1, 0.1) << kind.name << ", " << model;
      // A LoRA of alpha 32 moves W by more than its last bits.
      if (kind.options.kind != CoreKind::kBias && s.basis->core().scale() <= 2) {
        EXPECT_LT(std::abs(lost), 0.9);
      }
    }
}

TEST(Cores, FactorsAreNotReadWhereTheyAreNotNeeded) {
  Setting s("tiny_llama3", kKinds[4], at::kFloat);
  EXPECT_FALSE(s.basis->core().decomposed());
  EXPECT_TRUE(s.basis->frozen().empty());
}

}  // namespace
}  // namespace svfleet
