// Rows that are answered by experts of their own: "other" is the base to the bit; mixtures are of
// effective z; a search does not depend on how its rows are put together.
#include <gtest/gtest.h>

#include <random>

#include "comm/error.h"
#include "coordinator/adaptation/first_pass.h"
#include "coordinator/adaptation/mixture.h"
#include "coordinator/adaptation/routing.h"
#include "coordinator/adaptation/shots.h"
#include "tests/worker/model/fixtures.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

constexpr int kExperts = 31;

struct Bench {
  Config config;
  Crew crew;
  Base base;
  std::vector<std::vector<float>> z;

  static Config make_config() {
    set_compute_threads(1);
    Config config;
    config.model.path = tiny_folder("tiny_llama_plain");
    config.model.dtype = "bfloat16";
    TaskSpec task;
    task.name = "vowels";
    task.chat = false;
    task.train = SVFLEET_SOURCE_DIR "/examples/tasks/max3/train.jsonl";
    task.test = SVFLEET_SOURCE_DIR "/examples/tasks/max3/test.jsonl";
    task.max_new_tokens = 12;
    task.truncated = TruncatedRule::kScore;
    task.rewards.resize(1);
    task.rewards[0].kind = RewardKind::kRegex;
    task.rewards[0].pattern = "[aeiou].*[aeiou]";
    task.rewards[0].match_only = true;
    config.tasks = {task};
    return config;
  }

  Bench() : config(make_config()), crew(config), base(open_base(config, crew)) {
    base.basis = std::make_unique<Basis>(decompose_all(*base.weights, {"all"}), *base.weights);
    std::mt19937 random(5);
    for (int e = 0; e < kExperts; ++e) {
      z.emplace_back(size_t(total_length(base.basis->targets())));
      for (float& value : z.back()) value = 1 + 0.4f * (float(random() % 2001) / 1000 - 1);
    }
  }
  Task items(int64_t count) const { return load_task(config.tasks[0], "train", count); }
  std::vector<Prompt> prompts(const Task& task) const {
    std::vector<Prompt> all;
    for (const Item& item : task.items)
      all.push_back(make_prompt(base, task.spec, item, int64_t(all.size())));
    return all;
  }
  std::vector<Rollout> replies(const Policy& policy, const std::vector<Prompt>& some) const {
    return generate(*base.weights, *base.tokenizer, policy.adapter(), some, 1,
                    {.temperature = 1, .seed = 3});
  }
};

TEST(Adaptation, RowsOf32ExpertsAreAnsweredAsAloneAndOtherIsTheBaseToTheBit) {
  const Bench bench;
  const Policy all = policy_of_all(bench.base, bench.z), the_base = base_policy(bench.base);
  std::vector<Prompt> prompts = bench.prompts(bench.items(32));
  for (size_t i = 0; i < prompts.size(); ++i) prompts[i].entry = int(i);
  const std::vector<Rollout> together = bench.replies(all, prompts);
  size_t same_as_base = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Rollout alone = bench.replies(all, {prompts[i]})[0];
    EXPECT_EQ(together[i].tokens, alone.tokens) << i;
    EXPECT_EQ(together[i].log_probs, alone.log_probs) << i;
    const Rollout of_base = bench.replies(the_base, {prompts[i]})[0];
    same_as_base += together[i].log_probs == of_base.log_probs;
    if (i != kBaseEntry) continue;
    EXPECT_EQ(together[i].tokens, of_base.tokens);
    EXPECT_EQ(together[i].log_probs, of_base.log_probs);
  }
  EXPECT_EQ(same_as_base, 1u);  // control: no expert's row is
}

TEST(Adaptation, MixturesAreOfEffectiveZ) {
  const Bench bench;
  const std::vector<std::vector<float>> two = {bench.z[0], bench.z[1]};
  EXPECT_EQ(mixed_z(bench.base, two, {0, 1}), two[1]);  // an expert alone is itself
  EXPECT_EQ(mixed_z(bench.base, two, {0, 0}), base_policy(bench.base).z);
  const std::vector<float> half = mixed_z(bench.base, two, {0.5, 0.25});
  for (size_t i = 0; i < half.size(); ++i)
    EXPECT_EQ(half[i], float(0.5 * two[0][i] + 0.25 * two[1][i] + 0.25)) << i;
}

TEST(Adaptation, ASearchIsTheSameInEveryBatch) {
  Bench bench;
  const std::vector<std::vector<float>> three(bench.z.begin(), bench.z.begin() + 3);
  const Task shots = bench.items(4);
  EvaluationOptions options = evaluation_options(bench.config);
  const auto run = [&](int64_t batch, double temperature, uint64_t seed) {
    options.batch = batch;
    options.sampling.temperature = temperature;
    return *search_mixture(bench.base, bench.crew, three, shots, light_budget(3, 1, seed), options);
  };
  for (const double temperature : {0.0, 1.0}) {
    const MixtureSearch one = run(32, temperature, 1), other = run(5, temperature, 1);
    EXPECT_EQ(one.shares, other.shares);
    EXPECT_EQ(one.mixture.score, other.mixture.score);
    EXPECT_EQ(one.mixture.tie, other.mixture.tie);
    EXPECT_EQ(one.cost.written, other.cost.written);
    EXPECT_LE(one.candidates, 32);
    EXPECT_LE(one.measured, one.candidates);
    EXPECT_FALSE(better(one.base, one.mixture));
    for (const Fitness& alone : one.each) EXPECT_FALSE(better(alone, one.mixture));
  }
  EXPECT_NE(run(32, 0, 1).shares, run(32, 0, 2).shares);  // control
}

TEST(Adaptation, AMixtureIsAnExpertWithItsRecipe) {
  Bench bench;
  OpenedSet opened;
  for (int k = 0; k < 2; ++k) {
    opened.z.push_back(bench.z[size_t(k)]);
    opened.hashes.push_back(k ? "hash of the second file" : "of the first");
    opened.set.members.push_back({"/some/where/e", k ? "b" : "a", "", {}});
  }
  AdaptRequest request;
  request.strategy = "few_shot";
  request.budget = "light";
  const Task shots = bench.items(3);
  const auto pass = first_pass(bench.base, bench.crew, bench.config, request, opened, {}, shots);
  const Expert expert = mixture_expert(bench.base, opened, *pass, shots, 0);
  EXPECT_EQ(z_hash(expert), pass->policy.hash);
  EXPECT_EQ(
      z_hash(as_expert(*bench.base.basis, mixed_z(bench.base, opened.z, pass->search->shares))),
      z_hash(expert));
  const std::string& recipe = expert.metadata.at("mixture");
  EXPECT_NE(recipe.find("\"label\":\"b\""), std::string::npos) << recipe;
  EXPECT_NE(recipe.find("hash of the second file"), std::string::npos) << recipe;
  EXPECT_EQ(recipe.find("some/where"), std::string::npos) << recipe;
}

TEST(Adaptation, AChoiceIsAPromptsOwn) {
  Bench bench;
  ExpertSet set;
  for (const char* label : {"numbers", "words"}) set.members.push_back({"/e", label, label, {}});
  std::vector<std::string> prompts;
  for (const Item& item : bench.items(9).items) prompts.push_back(item.messages.back().content);
  for (const AskBy by : {AskBy::kLikelihood, AskBy::kCalibrated, AskBy::kAnswer}) {
    set.question.by = by;
    const Policy asked = base_policy(bench.base);
    const auto run = [&](int64_t batch) {
      return route(bench.base, bench.crew, asked, set, prompts, batch);
    };
    const Routing one = *run(32), other = *run(2);
    EXPECT_EQ(one.to, other.to);
    ASSERT_EQ(one.to.size(), prompts.size());
    for (const size_t to : one.to) EXPECT_LE(to, 2u);
    EXPECT_EQ(one.cost.read, other.cost.read);
    EXPECT_EQ(one.cost.written > 0, by == AskBy::kAnswer);
  }
  prompts = {std::string(5000, 'x')};
  EXPECT_THROW(route(bench.base, bench.crew, base_policy(bench.base), set, prompts, 1), Error);
}

}  // namespace
}  // namespace svfleet
