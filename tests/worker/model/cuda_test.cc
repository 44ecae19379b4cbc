// A tiny model on the GPU against the same on the CPU: what the two compute must agree to rounding,
// and what is hashed must agree to the bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "comm/nccl_reducer.h"
#include "svd/store.h"
#include "tests/worker/model/fixtures.h"
#include "worker/device.h"
#include "worker/kernels/gpu_product.h"
#include "worker/model/generate.h"
#include "worker/model/gradient.h"
#include "worker/model/next_token.h"

namespace svfleet {
namespace {

// float32 sums in another order: a few roundings of 6e-8 a layer, over four layers at most.
constexpr double kTolerance = 1e-4;

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = why_no_gpu();
    if (!reason.empty()) GTEST_SKIP() << reason;
    gpu_ = open_device("cuda", 0, "this host").torch;
  }
  at::Device gpu_ = at::kCPU;
};

// Largest difference relative to the largest value of the second.
double gap(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.cpu().to(at::kDouble), y = b.cpu().to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

double gap(const std::vector<float>& a, const std::vector<float>& b) {
  return gap(at::tensor(a), at::tensor(b));
}

// A model with an expert whose z has zeros and negative entries, and two prompts with two replies.
struct Setting : Adapted {
  std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;

  Setting(const std::string& name, at::ScalarType type, at::Device device)
      : Adapted(name, type, device) {
    std::mt19937 random(3);
    auto ids = [&](size_t n, std::vector<int> start = {}) {
      while (start.size() < n) start.push_back(int(random() % 250));
      return start;
    };
    const std::vector<int> prefix = ids(5);
    prompts = {ids(9, prefix), ids(12, prefix)};
    replies = {ids(6), ids(1), ids(9), ids(4)};
    groups = {{&prompts[0], {{&replies[0], 0.7, 0.3}, {&replies[1], -1.1, 0.3}}},
              {&prompts[1], {{&replies[2], -0.4, 0.3}, {&replies[3], 0.9, 0.3}}}};
    for (float& value : z) value += 0.2f * (float(random() % 2001) / 1000 - 1);
    for (const Target& target : basis.targets()) {
      z[target.offset] = 0;
      z[target.offset + 1] = -0.75f;
    }
  }
  at::Tensor logits(Apply apply) { return logits_of(weights, adapter(apply), prompts[1]); }
  GradientResult gradient(const GradientOptions& options, Apply apply) {
    return z_gradient(weights, adapter(apply), groups, options);
  }
};

TEST_F(Cuda, LogitsOfAllForms) {
  for (const char* name : kTinyModels) {
    Setting cpu(name, at::kFloat, at::kCPU), gpu(name, at::kFloat, gpu_);
    EXPECT_EQ(gpu.weights.hash(), cpu.weights.hash()) << name;
    for (Apply apply : {Apply::kFrozen, Apply::kMerged, Apply::kActivation}) {
      EXPECT_TRUE(gpu.logits(apply).is_cuda());
      EXPECT_LT(gap(gpu.logits(apply), cpu.logits(apply)), kTolerance) << name << int(apply);
    }
    // Control: the expert moves the logits by far more than the tolerance.
    EXPECT_GT(gap(gpu.logits(Apply::kMerged), cpu.logits(Apply::kFrozen)), 100 * kTolerance);
  }
}

TEST_F(Cuda, AnUntrainedExpertIsTheBaseModelBitForBit) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Setting gpu("tiny_llama3", type, gpu_);
    gpu.z.assign(gpu.z.size(), 1.0f);
    EXPECT_TRUE(at::equal(gpu.logits(Apply::kMerged), gpu.logits(Apply::kFrozen)));
  }
}

TEST_F(Cuda, GreedyAndSampledReplies) {
  const Tokenizer tokenizer = Tokenizer::load(tiny_folder("tiny_llama3"));
  std::vector<Prompt> prompts;
  for (const char* text : {"Which number is the largest: 17, 84, 52?", "Which number is",
                           "Write one sentence about the sea."})
    prompts.push_back({tokenizer.encode(text), int64_t(prompts.size()), 24, {}});
  Setting cpu("tiny_llama3", at::kFloat, at::kCPU), gpu("tiny_llama3", at::kFloat, gpu_);
  for (double temperature : {0.0, 1.0}) {
    const SamplingOptions options{.temperature = temperature, .seed = 7, .step = 3};
    auto run = [&](Setting& s) {
      return generate(s.weights, tokenizer, s.adapter(Apply::kActivation), prompts, 4, options);
    };
    const auto here = run(cpu), there = run(gpu), again = run(gpu);
    ASSERT_EQ(there.size(), here.size());
    int64_t equal = 0, all = 0;
    for (size_t i = 0; i < here.size(); ++i) {
      EXPECT_EQ(there[i].tokens, again[i].tokens);
      EXPECT_EQ(there[i].log_probs, again[i].log_probs);  // equal bits, run after run
      // A near-tie may fall the other way; up to there tokens and their probabilities agree.
      for (size_t t = 0; t < here[i].tokens.size(); ++t, ++equal) {
        if (t >= there[i].tokens.size() || there[i].tokens[t] != here[i].tokens[t]) break;
        EXPECT_NEAR(there[i].log_probs[t], here[i].log_probs[t], 1e-3);
      }
      all += int64_t(here[i].tokens.size());
    }
    EXPECT_GT(double(equal), 0.9 * double(all)) << "temperature " << temperature;
  }
}

TEST_F(Cuda, DrawsTheTokensThatTheRunningSumDraws) {
  at::Tensor probs = at::zeros({64, 5000});
  std::mt19937 random(4);
  std::vector<double> uniforms;
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < 64; ++i) {
    for (int k = 0; k < 4096; ++k)  // sums are exact in whatever order
      probs.data_ptr<float>()[5000 * i + random() % 5000] += 1.0f / 4096;
    uniforms.push_back(double(random() % 4096) / 4096);
    rows.push_back(63 - i);
  }
  const at::Tensor entropy = at::arange(64, at::kFloat);
  const Distribution here{probs.log(), probs, entropy},
      there{probs.log().to(gpu_), probs.to(gpu_), entropy.to(gpu_)};
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions options{.temperature = temperature};
    const NextTokens want = next_tokens(here, rows, uniforms, options),
                     got = next_tokens(there, rows, uniforms, options);
    EXPECT_EQ(got.tokens, want.tokens) << temperature;
    EXPECT_EQ(got.entropies, want.entropies) << temperature;
    EXPECT_EQ(next_tokens(there, {5}, {0.5}, options).tokens,
              next_tokens(here, {5}, {0.5}, options).tokens);
  }
}

TEST_F(Cuda, GradientOfBothForms) {
  for (const char* name : {"tiny_llama3", "tiny_qwen2"}) {
    Setting cpu(name, at::kFloat, at::kCPU), gpu(name, at::kFloat, gpu_);
    for (Apply apply : {Apply::kActivation, Apply::kMerged})
      for (KlLoss kl : {KlLoss::kNone, KlLoss::kK2, KlLoss::kFull}) {
        const GradientOptions options{0.8, kl};
        const GradientResult here = cpu.gradient(options, apply),
                             there = gpu.gradient(options, apply);
        for (size_t g = 0; g < here.log_probs.size(); ++g) {
          EXPECT_LT(gap(there.dz[g], here.dz[g]), 2 * kTolerance) << name << int(apply) << int(kl);
          for (size_t r = 0; r < here.log_probs[g].size(); ++r)
            for (size_t t = 0; t < here.log_probs[g][r].size(); ++t)
              EXPECT_NEAR(there.log_probs[g][r][t], here.log_probs[g][r][t], 1e-3);
        }
        // The promise of equal bits holds on a GPU too.
        EXPECT_EQ(gpu.gradient(options, apply).dz, there.dz);
      }
    // Control: another weight of one reply shows.
    const auto before = cpu.gradient({}, Apply::kActivation).dz[0];
    gpu.groups[0].replies[0].weight = -0.7;
    EXPECT_GT(gap(gpu.gradient({}, Apply::kActivation).dz[0], before), 100 * kTolerance);
  }
}

// One engine: what is said of a token when it is drawn and when it is trained is one number, alone,
// in a batch and in a tree.
TEST_F(Cuda, DrawnAndTrainedLogProbsAreEqualBits) {
  const Tokenizer tokenizer = Tokenizer::load(tiny_folder("tiny_llama3"));
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat})
    for (const Apply form : {Apply::kMerged, Apply::kActivation}) {
      Setting gpu("tiny_llama3", type, gpu_);
      std::vector<Prompt> prompts;
      for (const char* text : {"Which number is the largest: 17, 84, 52?", "Which", "The sea is"})
        prompts.push_back({tokenizer.encode(text), int64_t(prompts.size()), 70, {}});
      const SamplingOptions options{.seed = 7, .step = 3};
      const auto all = generate(gpu.weights, tokenizer, gpu.adapter(form), prompts, 5, options);
      const auto alone =
          generate(gpu.weights, tokenizer, gpu.adapter(form), {prompts[1]}, 1, options);
      EXPECT_EQ(alone[0].tokens, all[5].tokens);
      EXPECT_EQ(alone[0].log_probs, all[5].log_probs);
      std::vector<ReplyGroup> groups;
      for (size_t g = 0; g < prompts.size(); ++g) {
        groups.push_back({&prompts[g].tokens, {}});
        for (size_t s = 0; s < 5; ++s)
          groups.back().replies.push_back({&all[5 * g + s].tokens, 0.5});
      }
      const GradientResult trained = z_gradient(gpu.weights, gpu.adapter(form), groups, {});
      for (size_t g = 0; g < prompts.size(); ++g)
        for (size_t s = 0; s < 5; ++s)
          EXPECT_EQ(trained.log_probs[g][s], all[5 * g + s].log_probs) << int(type) << int(form);
      // A group's gradient is its own.
      const GradientResult one = z_gradient(gpu.weights, gpu.adapter(form), {groups[1]}, {});
      EXPECT_EQ(one.dz[0], trained.dz[1]);
      // Control: under the base the same replies have other log-probabilities.
      EXPECT_NE(reply_log_probs(gpu.weights, Adapter(), groups, 1)[0][0], all[0].log_probs);
    }
}

TEST_F(Cuda, ARowOfAProductHasItsOwnBits) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat})
    for (const auto& [outputs, inputs] : {std::pair{96, 64}, {1024, 4096}, {4096, 14336}}) {
      const at::Tensor m = at::randn({outputs, inputs}).to(type);
      const Matrix here(m), there(m.to(gpu_));
      for (const bool back : {false, true}) {
        const at::Tensor x = at::randn({600, back ? outputs : inputs}).to(type), y = x.to(gpu_);
        const auto wide = [&](const Matrix& m, const at::Tensor& x) {
          return back ? m.back_wide(x) : m.times_wide(x);
        };
        const at::Tensor all = wide(there, y), rounded = back ? there.back(y) : there.times(y);
        EXPECT_LT(gap(all, wide(here, x)), 5e-5);  // sums of 14336
        EXPECT_TRUE(at::equal(rounded, all.to(type)));
        for (const int64_t rows : {1, 2, 3, 7, 8, 16, 17, 64, 100, 256, 599})
          EXPECT_TRUE(at::equal(wide(there, y.narrow(0, 0, rows)), all.narrow(0, 0, rows)))
              << outputs << " x " << inputs << ", " << rows << " rows";
        EXPECT_TRUE(at::equal(wide(there, y.narrow(0, 300, 9)), all.narrow(0, 300, 9)));
      }
    }
}

// The shapes of Llama-3-8B have an algorithm each, for scripts/gpu_report to tell.
TEST_F(Cuda, ProductsOfALargeModel) {
  for (const auto& [outputs, inputs] :
       {std::pair{4096, 4096}, {1024, 4096}, {14336, 4096}, {4096, 14336}, {128256, 4096}}) {
    const Matrix m(at::randn({outputs, inputs}, at::TensorOptions(at::kBFloat16).device(gpu_)));
    for (const bool back : {false, true}) {
      const at::Tensor x = at::randn({70, back ? outputs : inputs}, m.plain().options());
      const at::Tensor all = back ? m.back(x) : m.times(x), few = x.narrow(0, 40, 3);
      EXPECT_TRUE(at::equal(back ? m.back(few) : m.times(few), all.narrow(0, 40, 3)));
    }
  }
  RecordProperty("told", cuda::chosen_products());
}

// Bases may differ where singular values are close; sigma and what is built from Q may not.
TEST_F(Cuda, Decomposition) {
  Weights model(tiny_folder("tiny_qwen2"), at::kFloat);
  for (const Target& target : choose_targets({"all"}, "0", model.architecture().layers,
                                             model.architecture().linear_shapes())) {
    const at::Tensor weight =
        read_weight(model.files(), target.name, {target.rows, target.cols}, at::kDouble);
    const Factor here = decompose(target, weight, at::kFloat),
                 there = decompose(target, weight.to(gpu_), at::kFloat);
    EXPECT_TRUE(there.q.is_cpu());
    ASSERT_EQ(there.sigma.size(), here.sigma.size());
    for (size_t i = 0; i < here.sigma.size(); ++i)
      EXPECT_NEAR(there.sigma[i], here.sigma[i], 1e-7 * here.sigma[0]) << target.name;
    EXPECT_LT(there.certificate.orthogonality, 1e-6) << target.name;
    EXPECT_LT(there.certificate.predicted_error, 1e-7) << target.name;
  }
}

}  // namespace
}  // namespace svfleet
