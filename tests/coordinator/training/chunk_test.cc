// A chunk is a pure function; its receipt proves which policy made it; its groups' gradients depend
// on nothing else.
#include "coordinator/training/chunk.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/error.h"
#include "coordinator/training/chunk_tally.h"
#include "coordinator/training/plan.h"
#include "tests/worker/model/fixtures.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

struct Bench {
  Config config;
  Crew crew;
  Base base;
  TrainingPlan plan;

  static Config make_config(const std::string& type) {
    set_compute_threads(1);
    Config config;
    config.model.path = tiny_folder("tiny_llama_plain");
    config.model.dtype = type;
    TaskSpec task;
    task.name = "vowels";
    task.train = SVFLEET_SOURCE_DIR "/examples/tasks/max3/train.jsonl";
    task.max_new_tokens = 16;
    task.truncated = TruncatedRule::kScore;
    RewardSpec reward;
    reward.kind = RewardKind::kRegex;
    reward.pattern = "[aeiou].*[aeiou]";
    reward.match_only = true;
    task.rewards = {reward};
    config.tasks = {task};
    return config;
  }

  explicit Bench(const std::string& type = "float32")
      : config(make_config(type)), crew(config), base(open_base(config, crew)) {
    base.basis = std::make_unique<Basis>(decompose_all(*base.weights, {"all"}), *base.weights);
    plan = make_plan(config, base, read_items(config));
    plan.rules.run_id = "test";
  }
  std::vector<float> ones() const {
    return std::vector<float>(size_t(total_length(base.basis->targets())), 1.0f);
  }
};

TEST(Chunk, IsAPureFunction) {
  Bench bench;
  Policy policy = enforce(bench.base, bench.crew, bench.ones(), Apply::kMerged);
  auto make = [&](int chunk) {
    return compute_chunk(bench.base, policy, bench.plan.rules, chunk,
                         bench.plan.prompts(bench.config, 0, chunk));
  };
  FinishedChunk a = make(1), b = make(1), other = make(2);
  EXPECT_EQ(a.gradient, b.gradient);
  EXPECT_EQ(a.counts, b.counts);
  EXPECT_EQ(a.texts, b.texts);
  EXPECT_NE(a.gradient, other.gradient);
  double norm = 0;
  for (float g : a.gradient) norm += double(g) * g;
  EXPECT_GT(norm, 0);
}

// Its prompts' replies and gradients are the same in a chunk of another size.
TEST(Chunk, SizeChangesNoBits) {
  for (const char* type : {"float32", "bfloat16"})
    for (const Apply form : {Apply::kMerged, Apply::kActivation}) {
      Bench bench(type);
      std::vector<float> z = bench.ones();
      for (size_t i = 0; i < z.size(); ++i) z[i] += i % 2 ? 0.01f : -0.01f;
      const Policy policy = enforce(bench.base, bench.crew, z, form);
      const auto all = [&](int64_t size) {
        bench.config.train.prompts_per_chunk = size;
        FinishedChunk sum;
        int64_t compared = 0;
        for (int c = 0; c < 4 / size; ++c) {
          const FinishedChunk one = compute_chunk(bench.base, policy, bench.plan.rules, c,
                                                  bench.plan.prompts(bench.config, 0, c));
          sum.groups += one.groups;
          sum.gradient.insert(sum.gradient.end(), one.gradient.begin(), one.gradient.end());
          const ChunkTally tally = unpack({one.counts, one.sums});
          EXPECT_EQ(tally.mismatch_max, 0);  // sampling and gradient saw the same numbers
          compared += tally.mismatch_tokens;
        }
        EXPECT_GT(compared, 0);
        return sum;
      };
      const FinishedChunk one = all(1), two = all(2), four = all(4);
      EXPECT_GT(one.groups, 1);
      EXPECT_EQ(one.gradient.size(), size_t(one.groups) * z.size());
      EXPECT_EQ(one.gradient, two.gradient);
      EXPECT_EQ(one.gradient, four.gradient);
    }
}

TEST(Chunk, AStaleRolloutIsRefused) {
  Bench bench;
  std::vector<float> z = bench.ones();
  Policy before = enforce(bench.base, bench.crew, z, Apply::kMerged);
  FinishedChunk chunk = compute_chunk(bench.base, before, bench.plan.rules, 0,
                                      bench.plan.prompts(bench.config, 0, 0));
  EXPECT_NO_THROW(check_receipt(chunk, 0, before.hash));
  EXPECT_THROW(check_receipt(chunk, 1, before.hash), Error);  // one step stale
  z[3] = std::nextafter(1.0f, 2.0f);                          // an update of one last bit
  Policy after = enforce(bench.base, bench.crew, z, Apply::kMerged);
  EXPECT_THROW(check_receipt(chunk, 0, after.hash), Error);
}

TEST(Chunk, CutRepliesAreWrongByDefault) {
  Bench bench;
  bench.plan.tasks[0].spec.truncated = TruncatedRule::kWrong;
  bench.plan.tasks[0].spec.max_new_tokens = 2;
  Policy policy = enforce(bench.base, bench.crew, bench.ones(), Apply::kMerged);
  FinishedChunk chunk = compute_chunk(bench.base, policy, bench.plan.rules, 0,
                                      bench.plan.prompts(bench.config, 0, 0));
  const ChunkTally tally = unpack({chunk.counts, chunk.sums});
  const Tally all = tally.all();
  EXPECT_GT(tally.truncated, 0);
  EXPECT_EQ(tally.truncated, all.replies - all.ended);
  // Whoever is cut has the reward of a wrong reply, whatever its text would score.
  const int64_t wrong = all.replies - all.right;
  EXPECT_GE(wrong, tally.truncated);
  EXPECT_EQ(tally.reward_sum, double(all.right) - double(wrong));
}

TEST(Chunk, MeasuredKlOfTheBaseModelIsZero) {
  Bench bench;
  bench.plan.rules.measure_kl = true;
  auto kl_of = [&](const std::vector<float>& z) {
    Policy policy = enforce(bench.base, bench.crew, z, Apply::kMerged);
    FinishedChunk chunk = compute_chunk(bench.base, policy, bench.plan.rules, 0,
                                        bench.plan.prompts(bench.config, 0, 0));
    return unpack({chunk.counts, chunk.sums}).kl.k3;
  };
  EXPECT_EQ(kl_of(bench.ones()), 0);
  std::vector<float> z = bench.ones();
  for (size_t i = 0; i < z.size(); ++i) z[i] += i % 2 ? 0.1f : -0.1f;
  EXPECT_GT(kl_of(z), 0.01);
}

}  // namespace
}  // namespace svfleet
