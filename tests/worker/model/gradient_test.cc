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

struct Setting {
  Model model;
  std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;
  std::vector<float> z;

  Setting(const std::string& name, at::ScalarType type, bool z_is_one = false)
      : model(tiny_folder(name), type) {
    model.attach(decompose_all(model, {"all"}));
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
    z.assign(total_length(model.targets()), 1.0f);
    if (z_is_one) return;
    std::normal_distribution<float> normal(0, 0.2f);
    for (float& value : z) value += normal(random);
    for (const Target& target : model.targets()) {
      z[target.offset] = 0;  // zero and negative entries in every matrix
      z[target.offset + 1] = -0.75f;
    }
  }

  void merge_all() {
    for (size_t t = 0; t < model.targets().size(); ++t) model.merge_one(t, z);
  }
};

// The loss by the plain way: every reply its own sequence, prompt included, nothing shared.
at::Tensor plain_loss(const Setting& s, Apply apply, const std::vector<at::Tensor>& d,
                      double temperature, KlLoss kl) {
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (const ReplyGroup& group : s.groups)
    for (const auto& reply : group.replies) {
      std::vector<int> tokens = *group.prompt;
      tokens.insert(tokens.end(), reply.tokens->begin(), reply.tokens->end());
      const int64_t n = int64_t(tokens.size()), first = int64_t(group.prompt->size()) - 1;
      auto log_pi = [&](Apply form) {
        at::Tensor h = s.model.forward(tokens, {{0, n, -1, 0}}, form, d);
        return at::log_softmax(at::linear(h, s.model.head()).to(at::kDouble) / temperature, -1)
            .narrow(0, first, n - 1 - first);
      };
      at::Tensor labels = at::empty({n - 1 - first, 1}, at::kLong);
      for (int64_t i = 0; i < labels.size(0); ++i) labels[i][0] = tokens[first + 1 + i];
      at::Tensor lp = log_pi(apply);
      loss = loss - reply.weight * lp.gather(1, labels).sum();
      if (kl == KlLoss::kNone) continue;
      at::Tensor base = log_pi(Apply::kFrozen).detach();
      at::Tensor term = kl == KlLoss::kK2 ? (lp - base).gather(1, labels).square() / 2
                                          : (lp.exp() * (lp - base)).sum(-1);
      loss = loss + reply.kl_weight * term.sum();
    }
  return loss;
}

std::vector<double> plain_gradient(const Setting& s, double temperature, KlLoss kl) {
  auto d = s.model.expert_tensors(s.z, true);
  plain_loss(s, Apply::kActivation, d, temperature, kl).backward();
  std::vector<double> out;
  for (const at::Tensor& t : d) {
    at::Tensor g = t.grad().to(at::kDouble).contiguous();
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
    auto d = s.model.expert_tensors(s.z, false);
    double worst = 0, largest = 0;
    for (size_t t = 0; t < 7; ++t)  // layer 0: all seven kinds
      for (int64_t i = 0; i < s.model.targets()[t].length(); i += 5) {
        const double h = 1e-4;
        auto at_step = [&](double step) {
          at::Tensor keep = d[t];
          d[t] = keep.clone();
          d[t][i] += step;
          double value = plain_loss(s, Apply::kActivation, d, 1, KlLoss::kNone).item<double>();
          d[t] = keep;
          return value;
        };
        // Fourth order: error h^4.
        double slope =
            (8 * (at_step(h) - at_step(-h)) - (at_step(2 * h) - at_step(-2 * h))) / (12 * h);
        worst = std::max(worst, std::abs(slope - ours[s.model.targets()[t].offset + i]));
        largest = std::max(largest, std::abs(slope));
      }
    EXPECT_LT(worst / largest, 1e-7) << name;
  }
}

TEST(ModelGradient, ThreeFormsAgreeInFloat32) {
  for (const char* name : kTinyModels) {
    Setting wide(name, at::kDouble), s(name, at::kFloat);
    std::vector<double> truth = plain_gradient(wide, 1, KlLoss::kNone);
    GradientOptions options;
    EXPECT_LT(gap(z_gradient(s.model, s.groups, s.z, options).dz, truth), 1e-4) << name;
    s.merge_all();
    options.apply = Apply::kClosedForm;
    EXPECT_LT(gap(z_gradient(s.model, s.groups, s.z, options).dz, truth), 1e-4) << name;
  }
}

// What the method's published code does: the gradient of every full weight W', projected on z.
std::vector<double> projected_weight_gradient(Setting& s) {
  s.merge_all();
  const std::vector<Target>& targets = s.model.targets();
  for (size_t t = 0; t < targets.size(); ++t) at::Tensor(s.model.merged(t)).requires_grad_(true);
  plain_loss(s, Apply::kMerged, {}, 1, KlLoss::kNone).backward();
  std::vector<Factor> factors = decompose_all(s.model, {"all"});
  std::vector<double> out;
  for (size_t t = 0; t < targets.size(); ++t) {
    at::Tensor g = s.model.merged(t).grad().to(at::kDouble), q = factors[t].q.to(at::kDouble);
    at::Tensor w = read_weight(s.model.files(), targets[t].name, {targets[t].rows, targets[t].cols},
                               at::kDouble);
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
    EXPECT_LT(gap(z_gradient(s.model, s.groups, s.z, {}).dz, projected), 1e-4) << name;
    EXPECT_LT(gap(z_gradient(s.model, s.groups, s.z, {.apply = Apply::kClosedForm}).dz, projected),
              1e-4)
        << name;
  }
}

TEST(ModelGradient, TemperatureAndKlLosses) {
  Setting wide("tiny_qwen2", at::kDouble), s("tiny_qwen2", at::kFloat);
  for (double temperature : {1.0, 0.6})
    for (KlLoss kl : {KlLoss::kNone, KlLoss::kK2, KlLoss::kFull}) {
      GradientOptions options{temperature, Apply::kActivation, kl};
      EXPECT_LT(gap(z_gradient(s.model, s.groups, s.z, options).dz,
                    plain_gradient(wide, temperature, kl)),
                2e-4);
    }
}

// Controls: weights of the wrong replies, a missing prompt, z off by one place.
TEST(ModelGradient, TheComparisonNoticesMistakes) {
  Setting s("tiny_qwen2", at::kFloat), wide("tiny_qwen2", at::kDouble);
  std::vector<double> truth = plain_gradient(wide, 1, KlLoss::kNone);
  std::swap(s.groups[0].replies[0].weight, s.groups[1].replies[0].weight);
  EXPECT_GT(gap(z_gradient(s.model, s.groups, s.z, {}).dz, truth), 0.05);
  std::swap(s.groups[0].replies[0].weight, s.groups[1].replies[0].weight);
  std::rotate(s.z.begin(), s.z.begin() + 1, s.z.end());
  EXPECT_GT(gap(z_gradient(s.model, s.groups, s.z, {}).dz, truth), 0.05);
}

TEST(Forms, MergedAndActivationGiveTheSameLogProbs) {
  for (const char* name : kTinyModels) {
    Setting s(name, at::kFloat);
    s.merge_all();
    auto merged = reply_log_probs(s.model, s.groups, Apply::kMerged, s.z, 1);
    auto activation = reply_log_probs(s.model, s.groups, Apply::kActivation, s.z, 1);
    auto frozen = reply_log_probs(s.model, s.groups, Apply::kFrozen, s.z, 1);
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
    s.merge_all();
    EXPECT_EQ(reply_log_probs(s.model, s.groups, Apply::kMerged, s.z, 1),
              reply_log_probs(s.model, s.groups, Apply::kFrozen, s.z, 1));
  }
}

TEST(Forms, TrainingLeavesTheBaseAlone) {
  Setting s("tiny_llama3", at::kFloat);
  const std::string before = s.model.weights_hash();
  s.merge_all();
  z_gradient(s.model, s.groups, s.z, {.apply = Apply::kClosedForm});
  s.model.unmerge();
  EXPECT_EQ(s.model.weights_hash(), before);
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
    s.merge_all();
    const auto layers = uint64_t(s.model.architecture().layers);
    const uint64_t forward =
        stages_of([&] { reply_log_probs(s.model, s.groups, Apply::kActivation, s.z, 1); });
    EXPECT_EQ(forward, 1 + layers + 1 + 1);  // begin, layers, one block of scores, end
    for (const Apply apply : {Apply::kActivation, Apply::kClosedForm}) {
      const uint64_t both =
          stages_of([&] { z_gradient(s.model, s.groups, s.z, {.apply = apply}); });
      EXPECT_EQ(both, forward + layers + 1);  // and the backward pass, and what it gives
    }
  }
}

TEST(ModelGradient, SameChunkSameBits) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Setting s("tiny_qwen2", type);
    auto first = z_gradient(s.model, s.groups, s.z, {});
    auto again = z_gradient(s.model, s.groups, s.z, {});
    EXPECT_EQ(first.dz, again.dz);
    EXPECT_EQ(first.log_probs, again.log_probs);
  }
}

}  // namespace
}  // namespace svfleet
