// The z gradient of whole models: closed form, activation-form autograd, projected full weight
// gradients and finite differences; the shared prompt and prefix; what must not change.
#include "worker/model/gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "comm/stage.h"
#include "svd/apply.h"
#include "tests/worker/model/fixtures.h"

namespace svfleet {
namespace {

struct Setting : Adapted {
  std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;

  Setting(const std::string& name, at::ScalarType type, bool z_is_one = false)
      : Adapted(name, type) {
    std::mt19937 random(3);
    auto ids = [&](size_t n, std::vector<int> start = {}) {
      while (start.size() < n) start.push_back(int(random() % 250));
      return start;
    };
    std::vector<int> prefix = ids(5);  // shared by both prompts
    prompts = {ids(9, prefix), ids(12, prefix)};
    replies = {ids(6), ids(1), ids(9), ids(4)};
    groups = {{&prompts[0], {{&replies[0], 0.7, 0.3}, {&replies[1], -1.1, 0.3}}},
              {&prompts[1], {{&replies[2], -0.4, 0.3}, {&replies[3], 0.9, 0.3}}}};
    if (z_is_one) return;
    std::normal_distribution<float> normal(0, 0.2f);
    for (float& value : z) value += normal(random);
    for (const Target& target : basis.targets()) {
      z[target.offset] = 0;  // zero and negative entries in every matrix
      z[target.offset + 1] = -0.75f;
    }
  }

  GradientResult gradient(const GradientOptions& options = {}, Apply apply = Apply::kActivation) {
    return z_gradient(weights, adapter(apply), groups, options);
  }
  ReplyLogProbs log_probs(Apply apply) {
    return reply_log_probs(weights, adapter(apply), groups, 1);
  }
};

// The loss by the plain way: every reply its own sequence, prompt included, nothing shared.
at::Tensor plain_loss(const Setting& s, const Adapter& adapter, double temperature, KlLoss kl) {
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (const ReplyGroup& group : s.groups)
    for (const auto& reply : group.replies) {
      std::vector<int> tokens = *group.prompt;
      tokens.insert(tokens.end(), reply.tokens->begin(), reply.tokens->end());
      const int64_t n = int64_t(tokens.size()), first = int64_t(group.prompt->size()) - 1;
      auto log_pi = [&](const Adapter& of) {
        at::Tensor h = forward(s.weights, of, one_sequence(tokens));
        return at::log_softmax(s.weights.head().logits(h).to(at::kDouble) / temperature, -1)
            .narrow(0, first, n - 1 - first);
      };
      at::Tensor labels = at::empty({n - 1 - first, 1}, at::kLong);
      for (int64_t i = 0; i < labels.size(0); ++i) labels[i][0] = tokens[first + 1 + i];
      at::Tensor lp = log_pi(adapter);
      loss = loss - reply.weight * lp.gather(1, labels).sum();
      if (kl == KlLoss::kNone) continue;
      at::Tensor base = log_pi(Adapter()).detach();
      at::Tensor term = kl == KlLoss::kK2 ? (lp - base).gather(1, labels).square() / 2
                                          : (lp.exp() * (lp - base)).sum(-1);
      loss = loss + reply.kl_weight * term.sum();
    }
  return loss;
}

std::vector<double> plain_gradient(Setting& s, double temperature, KlLoss kl) {
  const ExpertTable leaves = s.adapter(Apply::kActivation).table()->leaves({kOnlyExpert});
  plain_loss(s, {Apply::kActivation, &leaves, nullptr}, temperature, kl).backward();
  std::vector<double> out;
  for (size_t t = 0; t < s.basis.targets().size(); ++t) {
    at::Tensor g = leaves.d(t).grad()[kOnlyExpert].to(at::kDouble).contiguous();
    out.insert(out.end(), g.data_ptr<double>(), g.data_ptr<double>() + g.numel());
  }
  return out;
}

template <class A, class B>
double gap(const A& a, const B& b) {
  double largest = 0, worst = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
    largest = std::max(largest, std::abs(double(b[i])));
  }
  return worst / largest;
}

// Every entry of one matrix of each kind and form, all the way through the model, in float64.
TEST(ModelGradient, AgreesWithFiniteDifferencesInFloat64) {
  for (const char* name : {"tiny_qwen2", "tiny_llama3"}) {
    Setting s(name, at::kDouble);
    std::vector<double> ours = plain_gradient(s, 1, KlLoss::kNone);
    const Adapter adapter = s.adapter(Apply::kActivation);
    double worst = 0, largest = 0;
    for (size_t t = 0; t < 7; ++t)  // layer 0: all seven kinds
      for (int64_t i = 0; i < s.basis.targets()[t].length(); i += 5) {
        const double h = 1e-4;
        auto at_step = [&](double step) {
          at::Tensor d = adapter.table()->d(t)[kOnlyExpert], keep = d.clone();
          d[i] += step;
          double value = plain_loss(s, adapter, 1, KlLoss::kNone).item<double>();
          d.copy_(keep);
          return value;
        };
        // Fourth order: error h^4.
        double slope =
            (8 * (at_step(h) - at_step(-h)) - (at_step(2 * h) - at_step(-2 * h))) / (12 * h);
        worst = std::max(worst, std::abs(slope - ours[s.basis.targets()[t].offset + i]));
        largest = std::max(largest, std::abs(slope));
      }
    EXPECT_LT(worst / largest, 1e-7) << name;
  }
}

TEST(ModelGradient, ThreeFormsAgreeInFloat32) {
  for (const char* name : kTinyModels) {
    Setting wide(name, at::kDouble), s(name, at::kFloat);
    std::vector<double> truth = plain_gradient(wide, 1, KlLoss::kNone);
    for (const Apply apply : {Apply::kActivation, Apply::kClosedForm})
      EXPECT_LT(gap(s.gradient({}, apply).dz, truth), 1e-4) << name;
  }
}

// What the method's published code does: the gradient of every full weight W', projected on z.
std::vector<double> projected_weight_gradient(Setting& s) {
  const std::vector<Target>& targets = s.basis.targets();
  const Adapter adapter = s.adapter(Apply::kMerged);
  const Merged& merged = *adapter.merged();
  for (size_t t = 0; t < targets.size(); ++t) at::Tensor(merged.weight(t)).requires_grad_(true);
  plain_loss(s, adapter, 1, KlLoss::kNone).backward();
  std::vector<double> out;
  for (size_t t = 0; t < targets.size(); ++t) {
    at::Tensor g = merged.weight(t).grad().to(at::kDouble), q = s.basis.stored_q(t).to(at::kDouble);
    at::Tensor w = read_weight(s.weights.files(), targets[t].name,
                               {targets[t].rows, targets[t].cols}, at::kDouble);
    at::Tensor inner = targets[t].form == Form::kRight ? w.t().mm(g) : g.mm(w.t());
    at::Tensor dz = at::diag(q.t().mm(inner).mm(q)).contiguous();
    out.insert(out.end(), dz.data_ptr<double>(), dz.data_ptr<double>() + dz.numel());
  }
  return out;
}

TEST(ModelGradient, IsTheProjectedGradientOfTheFullWeights) {
  for (const char* name : kTinyModels) {
    Setting s(name, at::kFloat), wide(name, at::kDouble);
    std::vector<double> projected = projected_weight_gradient(s);
    EXPECT_LT(gap(projected, plain_gradient(wide, 1, KlLoss::kNone)), 1e-4) << name;
    for (const Apply apply : {Apply::kActivation, Apply::kClosedForm})
      EXPECT_LT(gap(s.gradient({}, apply).dz, projected), 1e-4) << name;
  }
}

TEST(ModelGradient, TemperatureAndKlLosses) {
  Setting wide("tiny_qwen2", at::kDouble), s("tiny_qwen2", at::kFloat);
  for (double temperature : {1.0, 0.6})
    for (KlLoss kl : {KlLoss::kNone, KlLoss::kK2, KlLoss::kFull})
      EXPECT_LT(gap(s.gradient({temperature, kl}).dz, plain_gradient(wide, temperature, kl)), 2e-4);
}

// Controls: weights of the wrong replies, a missing prompt, z off by one place.
TEST(ModelGradient, TheComparisonNoticesMistakes) {
  Setting s("tiny_qwen2", at::kFloat), wide("tiny_qwen2", at::kDouble);
  std::vector<double> truth = plain_gradient(wide, 1, KlLoss::kNone);
  std::swap(s.groups[0].replies[0].weight, s.groups[1].replies[0].weight);
  EXPECT_GT(gap(s.gradient().dz, truth), 0.05);
  std::swap(s.groups[0].replies[0].weight, s.groups[1].replies[0].weight);
  std::rotate(s.z.begin(), s.z.begin() + 1, s.z.end());
  EXPECT_GT(gap(s.gradient().dz, truth), 0.05);
}

TEST(Forms, MergedAndActivationGiveTheSameLogProbs) {
  for (const char* name : kTinyModels) {
    Setting s(name, at::kFloat);
    auto merged = s.log_probs(Apply::kMerged);
    auto activation = s.log_probs(Apply::kActivation);
    auto frozen = s.log_probs(Apply::kFrozen);
    double apart = 0, from_base = 0;
    for (size_t g = 0; g < merged.size(); ++g)
      for (size_t r = 0; r < merged[g].size(); ++r)
        for (size_t t = 0; t < merged[g][r].size(); ++t) {
          apart = std::max(apart, double(std::abs(merged[g][r][t] - activation[g][r][t])));
          from_base = std::max(from_base, double(std::abs(merged[g][r][t] - frozen[g][r][t])));
        }
    EXPECT_LT(apart, 2e-4) << name;
    EXPECT_GT(from_base, 0.1) << name;  // control: the expert does something
  }
}

TEST(Forms, AnUntrainedExpertIsTheBaseModelBitForBit) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Setting s("tiny_llama3", type, /*z_is_one=*/true);
    EXPECT_EQ(s.log_probs(Apply::kMerged), s.log_probs(Apply::kFrozen));
  }
}

TEST(Forms, TrainingLeavesTheBaseAlone) {
  Setting s("tiny_llama3", at::kFloat);
  const std::string before = s.weights.hash();
  s.gradient({}, Apply::kClosedForm);
  EXPECT_EQ(s.weights.hash(), before);
}

// Stages that `work` enters.
uint64_t stages_of(const std::function<void()>& work) {
  StageCounter counter;
  const Counted counted(&counter);
  work();
  return counter.value() >> 16;
}

// Each layer moves the counter, forward and backward, and so do the scores of the vocabulary.
TEST(ModelGradient, MovesLayerByLayerBothWays) {
  for (const char* name : kTinyModels) {
    Setting s(name, at::kFloat);
    const auto layers = uint64_t(s.weights.architecture().layers);
    const Adapter activation = s.adapter(Apply::kActivation);
    const uint64_t forward =
        stages_of([&] { reply_log_probs(s.weights, activation, s.groups, 1); });
    EXPECT_EQ(forward, 1 + layers + 1 + 1);  // begin, layers, one block of scores, end
    for (const Apply apply : {Apply::kActivation, Apply::kClosedForm}) {
      const Adapter adapter = s.adapter(apply);
      const uint64_t both = stages_of([&] { z_gradient(s.weights, adapter, s.groups, {}); });
      EXPECT_EQ(both, forward + layers + 1);  // and the backward pass, and what it gives
    }
  }
}

TEST(ModelGradient, SameChunkSameBits) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Setting s("tiny_qwen2", type);
    auto first = s.gradient(), again = s.gradient();
    EXPECT_EQ(first.dz, again.dz);
    EXPECT_EQ(first.log_probs, again.log_probs);
  }
}

}  // namespace
}  // namespace svfleet
