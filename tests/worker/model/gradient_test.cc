// The z gradient of whole models against libtorch's autograd through a decoder of its own, in
// float64: by z, and as the projected gradient of full weights; what it must not depend on.
#include "worker/model/gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "comm/error.h"
#include "comm/stage.h"
#include "tests/worker/model/fixtures.h"
#include "tests/worker/model/plain_loss.h"

namespace svfleet {
namespace {

struct Setting : Adapted {
  std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;

  Setting(const std::string& name, at::ScalarType type, bool z_is_one = false,
          std::vector<std::string> targets = {"all"}, const std::string& layers = "all")
      : Adapted(name, type, at::kCPU, targets, layers) {
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

std::vector<double> plain_gradient(const Setting& s, const ReplyGroup& group,
                                   double temperature = 1, KlLoss kl = KlLoss::kNone) {
  std::vector<at::Tensor> d = changes(s.basis, s.z), gradients;
  for (at::Tensor& leaf : d) leaf.requires_grad_(true);
  PlainDecoder policy(s.weights);
  policy.adapt(s.basis, d);
  plain_loss(s.weights, policy, group, temperature, kl).backward();
  for (const at::Tensor& leaf : d) gradients.push_back(leaf.grad());
  return flat(gradients);
}

// What the method's published code does: the gradient of every full weight W', projected on z.
std::vector<double> projected_weight_gradient(const Setting& s, const ReplyGroup& group) {
  const std::vector<Target>& targets = s.basis.targets();
  PlainDecoder policy(s.weights);
  policy.adapt(s.basis, changes(s.basis, s.z));
  for (const Target& target : targets) policy.matrix(target).requires_grad_(true);
  plain_loss(s.weights, policy, group, 1, KlLoss::kNone).backward();
  std::vector<at::Tensor> parts;
  for (size_t t = 0; t < targets.size(); ++t) {
    const at::Tensor g = policy.matrix(targets[t]).grad(), q = s.basis.q(t).plain().to(at::kDouble),
                     w = s.weights.layer(targets[t].layer)
                             .linears[std::find(linear_kinds().begin(), linear_kinds().end(),
                                                targets[t].kind) -
                                      linear_kinds().begin()]
                             .weight.plain()
                             .to(at::kDouble);
    const at::Tensor inner = targets[t].form == Form::kRight ? w.t().mm(g) : g.mm(w.t());
    parts.push_back(at::diag(q.t().mm(inner).mm(q)));
  }
  return flat(parts);
}

constexpr Apply kForms[] = {Apply::kActivation, Apply::kMerged};

// Zero and negative z, biases, heads that share keys: all of each group's dz, both forms.
TEST(ModelGradient, IsAutogradsInFloat64) {
  for (const char* name : kTinyModels) {
    Setting s(name, at::kDouble);
    for (const Apply form : kForms) {
      const GradientResult ours = s.gradient({}, form);
      for (size_t g = 0; g < s.groups.size(); ++g) {
        // dz comes out in float32.
        EXPECT_LT(gap(ours.dz[g], plain_gradient(s, s.groups[g])), 1e-6) << name;
        EXPECT_LT(gap(ours.dz[g], projected_weight_gradient(s, s.groups[g])), 1e-6) << name;
      }
    }
  }
}

TEST(ModelGradient, IsCloseInNarrowerTypes) {
  for (const char* name : kTinyModels)
    for (const Apply form : kForms) {
      Setting s(name, at::kFloat), b(name, at::kBFloat16);
      const GradientResult ours = s.gradient({}, form), narrow = b.gradient({}, form);
      for (size_t g = 0; g < s.groups.size(); ++g) {
        EXPECT_LT(gap(ours.dz[g], plain_gradient(s, s.groups[g])), 1e-4) << name;
        EXPECT_GT(cosine(narrow.dz[g], plain_gradient(b, b.groups[g])), 0.99) << name;
      }
    }
}

TEST(ModelGradient, TemperatureAndKlLosses) {
  Setting s("tiny_qwen2", at::kDouble);
  for (const double temperature : {1.0, 0.6})
    for (const KlLoss kl : {KlLoss::kNone, KlLoss::kK2, KlLoss::kFull}) {
      const GradientResult ours = s.gradient({temperature, kl});
      for (size_t g = 0; g < s.groups.size(); ++g)
        EXPECT_LT(gap(ours.dz[g], plain_gradient(s, s.groups[g], temperature, kl)), 1e-6);
    }
}

// Controls: weights of the wrong replies, z off by one place.
TEST(ModelGradient, TheComparisonNoticesMistakes) {
  Setting s("tiny_qwen2", at::kDouble);
  const std::vector<double> truth = plain_gradient(s, s.groups[0]);
  std::swap(s.groups[0].replies[0].weight, s.groups[0].replies[1].weight);
  EXPECT_GT(gap(s.gradient().dz[0], truth), 0.05);
  std::swap(s.groups[0].replies[0].weight, s.groups[0].replies[1].weight);
  EXPECT_GT(gap(s.gradient().dz[1], truth), 0.05);
  std::rotate(s.z.begin(), s.z.begin() + 1, s.z.end());
  EXPECT_GT(gap(s.gradient().dz[0], truth), 0.05);
}

// Only what is adapted, from the lowest such layer on.
TEST(ModelGradient, OfSomeMatricesOfSomeLayers) {
  for (const char* kind : {"down_proj", "v_proj"}) {
    Setting s("tiny_llama3", at::kDouble, false, {kind}, "1");
    for (const Apply form : kForms)
      EXPECT_LT(gap(s.gradient({}, form).dz[1], plain_gradient(s, s.groups[1])), 1e-6) << kind;
  }
}

// A group's bits are its own: alone, and beside any others.
TEST(ModelGradient, OfAGroupDependsOnNothingElse) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const Apply form : kForms) {
      Setting s("tiny_qwen2", type);
      const Adapter adapter = s.adapter(form);
      const GradientResult together = z_gradient(s.weights, adapter, s.groups, {});
      for (size_t g = 0; g < s.groups.size(); ++g) {
        const GradientResult alone = z_gradient(s.weights, adapter, {s.groups[g]}, {});
        EXPECT_EQ(alone.dz[0], together.dz[g]);
        EXPECT_EQ(alone.log_probs[0], together.log_probs[g]);
      }
      std::vector<ReplyGroup> many;
      for (int i = 0; i < 30; ++i) many.push_back(s.groups[size_t(i) % 2]);  // several trees
      const GradientResult of_many = z_gradient(s.weights, adapter, many, {});
      EXPECT_EQ(of_many.dz[28], together.dz[0]);
      EXPECT_EQ(of_many.dz[29], together.dz[1]);
      EXPECT_NE(together.dz[0], together.dz[1]);  // control
    }
}

// Some replies at a time: the same gradient, in other bits.
TEST(ModelGradient, CutIntoPartsIsTheSame) {
  Setting s("tiny_llama3", at::kDouble), narrow("tiny_llama3", at::kBFloat16);
  const GradientResult whole = s.gradient();
  for (const int64_t most : {1, 16, 20}) {
    const GradientResult cut = s.gradient({.most_tokens = most});
    for (size_t g = 0; g < s.groups.size(); ++g) EXPECT_LT(gap(cut.dz[g], whole.dz[g]), 1e-6);
    EXPECT_EQ(narrow.gradient({.most_tokens = most}).log_probs, narrow.gradient().log_probs);
  }
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
  for (const char* name : kTinyModels)
    for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Setting s(name, type, /*z_is_one=*/true);
      for (const Apply form : kForms) EXPECT_EQ(s.log_probs(form), s.log_probs(Apply::kFrozen));
    }
}

TEST(Forms, TrainingLeavesTheBaseAlone) {
  Setting s("tiny_llama3", at::kFloat);
  const std::string before = s.weights.hash();
  s.gradient({}, Apply::kMerged);
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
    for (const Apply form : kForms) {
      const Adapter adapter = s.adapter(form);
      const uint64_t forward = stages_of([&] { reply_log_probs(s.weights, adapter, s.groups, 1); });
      EXPECT_EQ(forward, 1 + layers + 1 + 1);  // begin, layers, one block of scores, end
      const uint64_t both = stages_of([&] { z_gradient(s.weights, adapter, s.groups, {}); });
      EXPECT_EQ(both, forward + layers + 1);  // and the backward pass, and what it gives
    }
  }
}

TEST(ModelGradient, SameGroupsSameBits) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Setting s("tiny_qwen2", type);
    auto first = s.gradient(), again = s.gradient();
    EXPECT_EQ(first.dz, again.dz);
    EXPECT_EQ(first.log_probs, again.log_probs);
  }
}

// Layers that are computed once more instead of being kept.
TEST(Gradient, IsTheSameWhereLayersAreComputedAgain) {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat})
    for (const Apply apply : {Apply::kActivation, Apply::kMerged}) {
      Setting s("tiny_llama3", type);
      const GradientResult kept = s.gradient({.kl = KlLoss::kFull, .again = Again::kNever}, apply),
                           again =
                               s.gradient({.kl = KlLoss::kFull, .again = Again::kAlways}, apply);
      EXPECT_EQ(kept.dz, again.dz) << type << " " << int(apply);
      EXPECT_EQ(kept.log_probs, again.log_probs);
      EXPECT_LT(again.peak_bytes, kept.peak_bytes);
    }
}

// What is longer than the model may compute is a mistake of ours: it has no angles for it.
TEST(Gradient, NothingLongerThanTheLongestIsComputed) {
  const std::string folder = tiny_folder("tiny_llama3");
  const std::vector<int> prompt(8, 7), reply(5, 9);
  const std::vector<ReplyGroup> groups = {{&prompt, {{&reply, 1}}}};
  const auto with = [&](int64_t longest) {
    Architecture architecture = read_architecture(folder);
    architecture.longest = longest;
    const Weights weights(folder, architecture, at::kFloat, at::kCPU);
    return reply_log_probs(weights, Adapter(), groups, 1);
  };
  EXPECT_EQ(with(12), with(0));  // the last token is at no position: it predicts nothing
  EXPECT_THROW(with(11), Error);
}

// A tiny model has more beside its layers than a real one: SmolLM2-135M is within 5 %.
TEST(Gradient, TakesTheMemoryThatItPredicts) {
  Setting s("tiny_llama3", at::kBFloat16);
  std::vector<std::vector<int>> replies;
  for (int r = 0; r < 16; ++r) replies.emplace_back(40 + 2 * r, 7 + r);
  s.groups.resize(1);
  s.groups[0].replies.clear();
  for (const std::vector<int>& reply : replies) s.groups[0].replies.push_back({&reply, 1, 0.3});
  for (const KlLoss kl : {KlLoss::kNone, KlLoss::kFull})
    for (const Again again : {Again::kNever, Again::kAlways}) {
      const GradientResult result = s.gradient({.kl = kl, .again = again});
      const double share = double(result.predicted_bytes) / double(result.peak_bytes);
      std::printf("predicted %ld, counted %ld: %.2f\n", long(result.predicted_bytes),
                  long(result.peak_bytes), share);
      EXPECT_GT(share, 0.75);
      EXPECT_LT(share, 1.25);
    }
  GradientOptions cut;
  cut.most_tokens = 128;
  EXPECT_LT(s.gradient(cut).peak_bytes, s.gradient().peak_bytes);
}

}  // namespace
}  // namespace svfleet
