#include "worker/model/generate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <thread>

#include "comm/error.h"
#include "comm/stage.h"
#include "tests/worker/model/fixtures.h"
#include "worker/model/gradient.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

struct Tiny {
  explicit Tiny(const std::string& name, at::ScalarType type = at::kFloat)
      : model(tiny_folder(name), type), tokenizer(Tokenizer::load(tiny_folder(name))) {}
  Weights model;
  Tokenizer tokenizer;
};

std::vector<Prompt> some_prompts(const Tokenizer& tokenizer, int count, int most = 24) {
  const char* texts[] = {"Which number is the largest: 17, 84, 52?",
                         "Which number is the largest: 3, 9?", "Name three colours.",
                         "Which number is", "Write one sentence about the sea."};
  std::vector<Prompt> prompts;
  for (int i = 0; i < count; ++i) prompts.push_back({tokenizer.encode(texts[i % 5]), i, most, {}});
  return prompts;
}

bool same(const std::vector<Rollout>& a, const std::vector<Rollout>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].tokens != b[i].tokens || a[i].log_probs != b[i].log_probs || a[i].text != b[i].text ||
        a[i].entropy != b[i].entropy)
      return false;
  return true;
}

TEST(Generate, SameBatchSameBitsWhateverElseRuns) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Tiny tiny("tiny_llama3", type);
    auto prompts = some_prompts(tiny.tokenizer, 3);
    SamplingOptions options{.temperature = 1, .seed = 7, .step = 3};
    auto run = [&] {
      set_compute_threads_here();
      return generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 4, options);
    };
    auto first = run();
    std::vector<std::vector<Rollout>> others(3);
    std::vector<std::thread> threads;
    for (auto& other : others) threads.emplace_back([&] { other = run(); });
    for (auto& thread : threads) thread.join();
    for (auto& other : others) EXPECT_TRUE(same(first, other));
    // Controls: another seed, step, or prompt key gives other replies.
    options.seed = 8;
    EXPECT_FALSE(same(first, run()));
    options.seed = 7, options.step = 4;
    EXPECT_FALSE(same(first, run()));
    options.step = 3;
    for (Prompt& prompt : prompts) prompt.key += 100;
    EXPECT_FALSE(same(first, run()));
  }
}

TEST(Generate, LogProbsAreThoseOfTheSameTokensScoredAnew) {
  for (const char* name : kTinyModels) {
    Tiny tiny(name);
    for (double temperature : {1.0, 0.7}) {
      auto prompts = some_prompts(tiny.tokenizer, 3);
      auto rollouts = generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 4,
                               {.temperature = temperature, .seed = 1});
      std::vector<ReplyGroup> groups(prompts.size());
      for (size_t p = 0; p < prompts.size(); ++p) groups[p].prompt = &prompts[p].tokens;
      for (const Rollout& r : rollouts) groups[r.prompt].replies.push_back({&r.tokens});
      auto again = reply_log_probs(tiny.model, Adapter(), groups, temperature);
      int ended = 0;
      for (const Rollout& r : rollouts) {
        ASSERT_EQ(r.log_probs.size(), r.tokens.size());
        for (size_t t = 0; t < r.tokens.size(); ++t)
          EXPECT_EQ(r.log_probs[t], again[r.prompt][r.sample][t]) << name;
        ended += r.ended;
        EXPECT_TRUE(r.ended || r.tokens.size() == 24u);
        EXPECT_GT(r.entropy, 0);
      }
      EXPECT_GT(ended, 0) << name;  // rows did leave the batch
    }
  }
}

// The tokens drawn follow the model's own distribution: chi-squared over the first token.
TEST(Generate, SamplesFollowTheDistribution) {
  Tiny tiny("tiny_qwen2");
  Prompt prompt{tiny.tokenizer.encode("Name three colours."), 0, 1, {}};
  at::Tensor p = at::softmax(logits_of(tiny.model, Adapter(), prompt.tokens).to(at::kDouble),
                             -1)[int64_t(prompt.tokens.size()) - 1]
                     .contiguous();
  std::map<int, int> counts;
  const int n = 4000;
  for (int i = 0; i < n / 100; ++i) {
    prompt.key = i;
    for (const Rollout& r : generate(tiny.model, tiny.tokenizer, Adapter(), {prompt}, 100,
                                     {.temperature = 1, .seed = 5}))
      ++counts[r.tokens[0]];
  }
  double chi2 = 0, rest_expected = n, rest_seen = n, wrong = 0;
  int cells = 0;
  for (int64_t token = 0; token < p.numel(); ++token) {
    double expected = n * p.data_ptr<double>()[token];
    if (expected < 20) continue;
    chi2 += std::pow(counts[int(token)] - expected, 2) / expected;
    wrong += std::pow(counts[int((token + 1) % p.numel())] - expected, 2) / expected;
    rest_expected -= expected, rest_seen -= counts[int(token)];
    ++cells;
  }
  if (rest_expected > 5) chi2 += std::pow(rest_seen - rest_expected, 2) / rest_expected;
  ASSERT_GT(cells, 5);
  EXPECT_LT(chi2, cells + 4 * std::sqrt(2.0 * cells) + 4);
  EXPECT_GT(wrong, 10 * cells);  // control: the neighbouring tokens' counts do not fit
}

TEST(Generate, StopTokensOfAPromptEndAReply) {
  Tiny tiny("tiny_llama_plain");
  auto prompts = some_prompts(tiny.tokenizer, 2, 40);
  auto free = generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 1, {.temperature = 0});
  ASSERT_GT(free[0].tokens.size(), 8u);
  const int stop = free[0].tokens[5];
  prompts[0].stop_tokens = {stop};
  auto cut = generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 1, {.temperature = 0});
  EXPECT_TRUE(cut[0].ended);
  const auto first = std::find(free[0].tokens.begin(), free[0].tokens.end(), stop);
  EXPECT_EQ(cut[0].tokens.size(), size_t(first - free[0].tokens.begin()) + 1);
  EXPECT_EQ(cut[1].tokens, free[1].tokens);  // not those of its neighbour
}

TEST(Generate, StopStringsEndAReplyAndAreCutOff) {
  Tiny tiny("tiny_llama_plain");
  auto prompts = some_prompts(tiny.tokenizer, 1, 40);
  auto free = generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 1, {.temperature = 0});
  ASSERT_GT(free[0].text.size(), 8u);
  prompts[0].stop = {free[0].text.substr(4, 3)};
  auto cut = generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 1, {.temperature = 0});
  EXPECT_TRUE(cut[0].ended);
  EXPECT_LT(cut[0].tokens.size(), free[0].tokens.size());
  EXPECT_EQ(cut[0].text, free[0].text.substr(0, free[0].text.find(prompts[0].stop[0])));
}

TEST(Generate, MovesWithEachLayerOfEachToken) {
  Tiny tiny("tiny_llama3");
  StageCounter counter;
  const Counted counted(&counter);
  size_t longest = 0;
  for (const Rollout& rollout : generate(tiny.model, tiny.tokenizer, Adapter(),
                                         some_prompts(tiny.tokenizer, 2), 2, {.temperature = 0}))
    longest = std::max(longest, rollout.tokens.size());
  ASSERT_GT(longest, 3u);
  const auto layers = size_t(tiny.model.architecture().layers);
  // For each token: begin, the prompts or the token before in all layers, end.
  EXPECT_EQ(counter.value() >> 16, longest * (layers + 2));
}

TEST(Generate, TooLongIsRefused) {
  Tiny tiny("tiny_qwen2");
  auto prompts = some_prompts(tiny.tokenizer, 1, 100000);
  EXPECT_THROW(generate(tiny.model, tiny.tokenizer, Adapter(), prompts, 1, {}), Error);
}

// A reply is the same alone, in a batch of 64 and with rows entering and leaving beside it: tokens,
// log-probabilities and entropy to the bit, in each form.
class Company : public ::testing::TestWithParam<std::tuple<const char*, at::ScalarType, Apply>> {};

TEST_P(Company, ChangesNothing) {
  const auto [name, type, form] = GetParam();
  Adapted s(name, type);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 0.2f);
  for (float& z : s.z) z += normal(random);
  const Adapter adapter = s.adapter(form);
  const Tokenizer tokenizer = Tokenizer::load(tiny_folder(name));
  const SamplingOptions options{.temperature = 1, .seed = 7, .step = 3};
  std::vector<Prompt> prompts = some_prompts(tokenizer, 16, 40);
  for (size_t p = 0; p < prompts.size(); ++p)  // lengths on both sides of a page's end
    for (size_t i = 0; i < 5 * p; ++i) prompts[p].tokens.push_back(int(random() % 250));
  const std::vector<Rollout> together =
      generate(s.weights, tokenizer, adapter, prompts, 4, options);
  const auto expect_same = [&](const Rollout& reply, size_t p, int sample) {
    EXPECT_TRUE(same({reply}, {together[p * 4 + size_t(sample)]})) << name << " " << p;
  };
  size_t longest = 0, shortest = 1000;
  for (size_t p = 0; p < prompts.size(); ++p) {
    Engine alone(s.weights, tokenizer, adapter, options);
    alone.submit({prompts[p], {2}});
    while (!alone.idle())
      for (const Engine::Finished& done : alone.step()) {
        expect_same(done.rollout, p, 2);
        longest = std::max(longest, done.rollout.tokens.size());
        shortest = std::min(shortest, done.rollout.tokens.size());
      }
  }
  EXPECT_GT(longest, shortest);  // control: rows did leave
  // A step between one request and the next, three rows at most, and one that is taken back.
  Engine engine(s.weights, tokenizer, adapter, options, 3);
  std::vector<Engine::Finished> finished;
  const auto step = [&] {
    for (Engine::Finished& done : engine.step()) finished.push_back(std::move(done));
    EXPECT_LE(engine.rows(), 3);
  };
  for (const Prompt& prompt : prompts) {
    engine.submit({prompt, {0, 1, 2, 3}});
    step();
  }
  engine.cancel(5);
  while (!engine.idle()) step();
  EXPECT_EQ(finished.size(), 60u);
  for (const Engine::Finished& done : finished)
    expect_same(done.rollout, size_t(done.request), done.rollout.sample);
  // And to the bit what the gradient's forward pass says.
  for (size_t p = 0; p < 3; ++p) {
    ReplyGroup group{&prompts[p].tokens, {}};
    for (size_t r = 0; r < 4; ++r)
      group.replies.push_back({&together[p * 4 + r].tokens, 0.5 - double(r), 0});
    const GradientResult trained = z_gradient(s.weights, adapter, {group}, {});
    for (size_t r = 0; r < 4; ++r)
      EXPECT_EQ(trained.log_probs[0][r], together[p * 4 + r].log_probs) << name;
  }
  // Control: of another form it is another number.
  const Adapter other = s.adapter(form == Apply::kMerged ? Apply::kActivation : Apply::kMerged);
  const ReplyGroup group{&prompts[0].tokens, {{&together[0].tokens}}};
  EXPECT_NE(reply_log_probs(s.weights, other, {group}, 1)[0][0], together[0].log_probs);
}

INSTANTIATE_TEST_SUITE_P(Everywhere, Company,
                         ::testing::Combine(::testing::Values("tiny_qwen2", "tiny_llama3"),
                                            ::testing::Values(at::kFloat, at::kBFloat16),
                                            ::testing::Values(Apply::kMerged, Apply::kActivation)));

}  // namespace
}  // namespace svfleet
