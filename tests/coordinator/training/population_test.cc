// A population: its members answer as each would alone, by common random numbers, however they are
// cut into chunks; and what their fitness tells is the policy gradient.
#include "coordinator/training/population.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "comm/random.h"
#include "coordinator/training/chunk.h"
#include "coordinator/training/chunk_tally.h"
#include "coordinator/training/learner.h"
#include "tests/coordinator/training/bench.h"

namespace svfleet {
namespace {

Bench evolving(const std::string& type, int64_t population, std::vector<std::string> targets) {
  Config config = Bench::make_config(type);
  config.svd.targets = std::move(targets);
  config.train.method = "es";
  config.train.form = "activation";
  config.train.population = population;
  config.train.perturbation = 0.25;
  config.train.prompts_per_step = 4;
  config.train.samples_per_prompt = 3;
  return Bench(config);
}

Learner learner_of(const Bench& bench) {
  RunState state;
  state.p.assign(bench.ones().size(), 0);
  state.m = state.v = state.p;
  return Learner({bench.config, bench.plan.optimizer, bench.base.basis->core()}, state);
}

Policy centre_of(Bench& bench, const Learner& learner) {
  return enforce(bench.base, bench.crew, learner.z(), Apply::kActivation);
}

// Of all members, by chunks of `size`.
ChunkTally answered(Bench& bench, int64_t size, const Replies& replies = {}) {
  bench.config.train.members_per_chunk = size;
  const Learner learner = learner_of(bench);
  const Policy centre = centre_of(bench, learner);
  ChunkTally sum(1);
  for (int c = 0; c < int(bench.config.train.population / size); ++c) {
    const Policy members = with_members(bench.base, centre, learner.members(c * size, size));
    const FinishedChunk chunk = compute_chunk(bench.base, members, bench.plan.rules, c,
                                              bench.plan.prompts(bench.config, 0, c), replies);
    EXPECT_NO_THROW(check_receipt(chunk, 0, centre.hash));
    EXPECT_TRUE(chunk.gradient.empty());
    EXPECT_EQ(chunk.prompts, size);
    sum.add(unpack({chunk.counts, chunk.sums}));
  }
  return sum;
}

TEST(Population, ChunksChangeNoBits) {
  for (const char* type : {"float32", "bfloat16"}) {
    Bench bench = evolving(type, 8, {"all"});
    const ChunkTally one = answered(bench, 1);
    EXPECT_EQ(one.fitness.size(), 8u);
    EXPECT_EQ(one.all().replies, 8 * 4 * 3);
    EXPECT_GT(summary_of(one.fitness).apart, 0);
    for (const int64_t size : {2, 4, 8}) {
      const ChunkTally other = answered(bench, size);
      EXPECT_EQ(other.fitness, one.fitness) << type << " " << size;
      EXPECT_EQ(other.entropy_sum, answered(bench, size).entropy_sum);
      EXPECT_EQ(other.all().tokens, one.all().tokens);
    }
    bench.plan.rules.seed = 1;  // control: other prompts' random numbers
    EXPECT_NE(answered(bench, 4).fitness, one.fitness);
  }
}

// By the same prompts, samples and rewards as a run of the policy gradient with the member's z.
TEST(Population, AMemberIsThePolicyOfItsZ) {
  Bench bench = evolving("float32", 4, {"all"});
  const ChunkTally all = answered(bench, 4);
  Bench alone = evolving("float32", 4, {"all"});
  alone.config.train.method = "policy_gradient";
  alone.config.train.prompts_per_chunk = 4;
  alone.plan = make_plan(alone.config, alone.base, read_items(alone.config));
  const auto members = learner_of(bench).members(0, 4);
  for (size_t i = 0; i < members.size(); ++i) {
    const Policy policy = enforce(alone.base, alone.crew, members[i], Apply::kActivation);
    const FinishedChunk chunk = compute_chunk(alone.base, policy, alone.plan.rules, 0,
                                              alone.plan.prompts(alone.config, 0, 0));
    const ChunkTally tally = unpack({chunk.counts, chunk.sums});
    EXPECT_EQ(tally.all().counted, 12);
    EXPECT_EQ(all.fitness[i], tally.reward_sum / 12);
  }
}

// Members that do not differ draw the same replies: random numbers name prompt and sample only.
TEST(Population, DrawsCommonRandomNumbers) {
  Bench bench = evolving("float32", 6, {"all"});
  bench.config.train.perturbation = 1e-30;
  const ChunkTally same = answered(bench, 2);
  for (const double fitness : same.fitness) EXPECT_EQ(fitness, same.fitness[0]);
  bench.config.train.perturbation = 0.5;
  const ChunkTally apart = answered(bench, 2);
  EXPECT_NE(apart.fitness, same.fitness);
}

TEST(Population, CutAndMaskedRepliesFollowTheRule) {
  Bench bench = evolving("float32", 4, {"all"});
  TaskSpec& task = bench.plan.tasks[0].spec;
  task.max_new_tokens = 1;
  task.truncated = TruncatedRule::kWrong;
  const ChunkTally wrong = answered(bench, 2);
  EXPECT_EQ(wrong.all().counted, 48);
  task.truncated = TruncatedRule::kMask;
  const ChunkTally masked = answered(bench, 2);
  EXPECT_LT(masked.all().counted, 12);  // of nearly all members no reply counts
  for (const double fitness : masked.fitness) EXPECT_EQ(fitness, -1);
  for (const double fitness : wrong.fitness) EXPECT_EQ(fitness, -1);
}

// A restored reply is that of its member and of no other.
TEST(Population, RestoresAReplyToItsMember) {
  Bench bench = evolving("float32", 4, {"all"});
  const ChunkTally before = answered(bench, 2);
  FinishedReply reply;
  reply.place = {bench.plan.prompts(bench.config, 0, 0)[1].position, 2, 1};
  reply.ended = true;
  reply.tokens = {1};
  reply.log_probs = {-1};
  std::vector<double> with[2];
  for (const bool right : {false, true}) {
    reply.text = right ? "a e" : "";
    with[right] = answered(bench, 2, Replies({reply}, 0, {"z"}, nullptr)).fitness;
  }
  EXPECT_NEAR(with[1][2] - with[0][2], 2.0 / 12, 1e-12);
  for (const size_t other : {0, 1, 3}) {
    EXPECT_EQ(with[0][other], before.fitness[other]);
    EXPECT_EQ(with[1][other], before.fitness[other]);
  }
}

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i)
    ab += double(a[i]) * b[i], aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
  return ab / std::sqrt(aa * bb);
}

// The estimate is that of the gradient which the policy gradient estimates in another way.
TEST(Population, ItsEstimateIsThePolicyGradient) {
  constexpr int64_t kPrompts = 16;
  Config config = Bench::make_config("float32");
  config.svd.targets = {"v_proj"};
  config.tasks[0].max_new_tokens = 8;
  config.train.prompts_per_step = config.train.prompts_per_chunk = kPrompts;
  config.train.samples_per_prompt = 128;
  config.train.form = "activation";
  Bench bench(config);
  const size_t d = bench.ones().size();
  const Policy base = enforce(bench.base, bench.crew, bench.ones(), Apply::kActivation);
  const FinishedChunk exact =
      compute_chunk(bench.base, base, bench.plan.rules, 0, bench.plan.prompts(bench.config, 0, 0));
  std::vector<float> gradient(d, 0);
  for (size_t i = 0; i < exact.gradient.size(); ++i) gradient[i % d] += exact.gradient[i];

  bench.config.train.method = "es";
  bench.config.train.population = 256;
  bench.config.train.perturbation = 0.2;
  bench.config.train.samples_per_prompt = 8;
  bench.plan = make_plan(bench.config, bench.base, read_items(bench.config));
  const std::vector<double> fitness = answered(bench, 16).fitness;
  const Perturbation of{0, 0, bench.config.train.perturbation};
  std::printf("%zu parameters, %lld prompts\n", d, (long long)kPrompts);
  double before = -1, least = 1e9, most = 0;
  for (const size_t members : {16, 64, 256}) {
    // Of disjoint populations: the mean over as many as there are.
    double mean = 0;
    const size_t parts = fitness.size() / members;
    for (size_t part = 0; part < parts; ++part) {
      std::vector<double> utility(fitness.size(), 0);
      const std::span<const double> own(fitness.data() + part * members, members);
      const std::vector<double> ranks = centred_ranks(own);
      std::copy(ranks.begin(), ranks.end(), utility.begin() + std::ptrdiff_t(part * members));
      mean += cosine(evolution_gradient(of, utility, d), gradient) / double(parts);
    }
    const double pairs = double(members) / 2;
    // cos^2 = N / (N + x): x is d - 1 without noise, and the same number for every N with it.
    const double x = pairs * (1 / (mean * mean) - 1);
    std::printf("population %zu: cosine %.3f, x %.0f; of a noiseless linear fitness %.3f\n",
                members, mean, x, std::sqrt(pairs / (pairs + double(d) - 1)));
    EXPECT_GT(mean, before);
    before = mean;
    most = std::max(most, x);
    least = std::min(least, x);
  }
  EXPECT_LT(most, 1.6 * least);
  EXPECT_GT(before, 0.45);
  // Control: the fitness of other members.
  std::vector<double> shuffled(fitness.size());
  const auto order = keyed_permutation(1, 0, 0, int64_t(fitness.size()));
  for (size_t i = 0; i < shuffled.size(); ++i) shuffled[i] = fitness[size_t(order[i])];
  EXPECT_LT(std::abs(cosine(evolution_gradient(of, centred_ranks(shuffled), d), gradient)), 0.4);
}

}  // namespace
}  // namespace svfleet
