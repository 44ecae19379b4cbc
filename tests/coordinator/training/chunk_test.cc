// A chunk is a pure function; its receipt proves which policy made it; its groups' gradients depend
// on nothing else.
#include "coordinator/training/chunk.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/training/chunk_tally.h"
#include "coordinator/training/step_record.h"
#include "tests/coordinator/training/bench.h"
#include "tests/worker/model/plain_decoder.h"

namespace svfleet {
namespace {

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

// As many replies are kept to be read as train.rollout_samples says, the first of the step, though
// a chunk's share of them is rounded up.
TEST(Chunk, RepliesToReadAreAsManyAsAskedFor) {
  Config config = Bench::make_config("float32");
  for (const int64_t asked : {0, 3, 4, 5}) {
    config.train.rollout_samples = asked;
    Bench bench(config);
    std::vector<FinishedChunk> chunks;
    for (int c = 0; c < bench.plan.chunks_per_step; ++c) {
      FinishedChunk& chunk = chunks.emplace_back();
      chunk.chunk = c;
      PackedTally packed = pack(ChunkTally(1));
      chunk.counts = packed.counts, chunk.sums = packed.sums;
      nlohmann::json texts = nlohmann::json::array();
      for (int i = 0; i < bench.plan.rules.sampled_texts; ++i) texts.push_back({c, i});
      chunk.texts = texts.dump();
    }
    ASSERT_EQ(chunks.size(), 4u);
    const StepRecord record = gather_record(bench.crew, chunks, 0, {}, bench.plan);
    EXPECT_EQ(int64_t(record.texts.size()), asked);
    if (asked > 0) {
      EXPECT_EQ(record.texts.back(),
                asked == 5 ? nlohmann::json({2, 0}) : nlohmann::json({asked - 1, 0}));
    }
  }
}

// The numbers of max3 instead of its vowels.
Bench number_bench(Method method, const std::string& model = "tiny_llama_plain") {
  Config config = Bench::make_config("float32");
  config.model.path = tiny_folder(model);
  RewardSpec reward;
  reward.kind = RewardKind::kLastNumber;
  config.tasks[0].rewards = {reward};
  Bench bench(config);
  bench.plan.rules.method = method;
  if (method == Method::kAnswers) bench.plan.rules.samples = 1;
  return bench;
}

// By a decoder in float64 that shares nothing with the engine: - log pi of the answer and the end,
// summed over the chunk's prompts; and its gradient by z at z = 1.
std::pair<double, std::vector<double>> plain_answer_loss(const Bench& bench, int end,
                                                         int shift = 0) {
  const std::vector<ChunkPrompt> prompts = bench.plan.prompts(bench.config, 0, 0);
  const Basis& basis = *bench.base.basis;
  std::vector<at::Tensor> d;
  for (const Target& target : basis.targets())
    d.push_back(at::zeros({target.length()}, at::kDouble).requires_grad_(true));
  PlainDecoder decoder(*bench.base.weights);
  decoder.adapt(basis, d);
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (size_t g = 0; g < prompts.size(); ++g) {
    std::vector<int> tokens = make_prompt(bench.base, *prompts[g].spec, *prompts[g].item, 0).tokens;
    const int64_t first = int64_t(tokens.size()) - 1;
    const std::string& answer = prompts[(g + size_t(shift)) % prompts.size()].item->gold.answer;
    for (const int id : bench.base.tokenizer->encode(answer)) tokens.push_back(id);
    tokens.push_back(end);
    const at::Tensor log_pi = at::log_softmax(decoder.logits(tokens), -1);
    for (int64_t i = first; i + 1 < int64_t(tokens.size()); ++i)
      loss = loss - log_pi[i][tokens[size_t(i) + 1]];
  }
  loss.backward();
  std::vector<double> gradient;
  for (const at::Tensor& leaf : d)
    for (int64_t i = 0; i < leaf.numel(); ++i) gradient.push_back(leaf.grad()[i].item<double>());
  return {loss.item<double>(), gradient};
}

std::vector<double> summed(const FinishedChunk& chunk, size_t length) {
  std::vector<double> sum(length, 0);
  for (size_t i = 0; i < chunk.gradient.size(); ++i) sum[i % length] += double(chunk.gradient[i]);
  return sum;
}

double relative(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
  return std::sqrt(difference / norm);
}

TEST(NextToken, TrainsOnTheItemsAnswers) {
  Bench bench = number_bench(Method::kAnswers);
  const Policy policy = enforce(bench.base, bench.crew, bench.ones(), Apply::kMerged);
  bench.config.train.prompts_per_chunk = 3;
  const FinishedChunk chunk = compute_chunk(bench.base, policy, bench.plan.rules, 0,
                                            bench.plan.prompts(bench.config, 0, 0));
  const ChunkTally tally = unpack({chunk.counts, chunk.sums});
  EXPECT_EQ(tally.all().counted, 3);
  EXPECT_EQ(tally.all().right, 3);  // an item's answer is right by the task's reward
  EXPECT_EQ(tally.trained_groups, 3);
  const int end = bench.base.weights->architecture().stop_tokens.front();
  const auto [loss, gradient] = plain_answer_loss(bench, end);
  EXPECT_NEAR(tally.loss.sum, loss, 1e-4 * loss);
  EXPECT_LT(relative(summed(chunk, gradient.size()), gradient), 1e-4);
  const auto [of_others, by_others] =
      plain_answer_loss(bench, end, 1);  // control: other items' answers
  EXPECT_GT(std::abs(of_others - loss), 1e-3 * loss);
  EXPECT_GT(relative(summed(chunk, by_others.size()), by_others), 0.01);
}

// With the stop token that ends a turn, which this model lists behind one that ends a text.
TEST(NextToken, AnAnswerEndsAsATurnDoes) {
  Bench bench = number_bench(Method::kAnswers, "tiny_llama3");
  const std::vector<int>& stops = bench.base.weights->architecture().stop_tokens;
  ASSERT_EQ(stops.size(), 2u);
  const Policy policy = enforce(bench.base, bench.crew, bench.ones(), Apply::kMerged);
  const FinishedChunk chunk = compute_chunk(bench.base, policy, bench.plan.rules, 0,
                                            bench.plan.prompts(bench.config, 0, 0));
  const double loss = unpack({chunk.counts, chunk.sums}).loss.sum;
  const double of_turn = plain_answer_loss(bench, stops[1]).first;
  EXPECT_NEAR(loss, of_turn, 1e-4 * of_turn);
  EXPECT_GT(std::abs(plain_answer_loss(bench, stops[0]).first - loss), 1e-3 * loss);  // control
}

// The policy moves, the texts do not: they are the base's.
TEST(NextToken, TrainsOnTheBasesRightReplies) {
  Bench bench("float32");
  bench.plan.rules.method = Method::kRightReplies;
  bench.config.train.prompts_per_chunk = 4;
  const auto chunk_of = [&](float move) {
    std::vector<float> z = bench.ones();
    for (size_t i = 0; i < z.size(); ++i) z[i] += i % 2 ? move : -move;
    const Policy policy = enforce(bench.base, bench.crew, z, Apply::kMerged);
    return compute_chunk(bench.base, policy, bench.plan.rules, 0,
                         bench.plan.prompts(bench.config, 0, 0));
  };
  const FinishedChunk near = chunk_of(0), far = chunk_of(0.2f);
  const ChunkTally tally = unpack({near.counts, near.sums}), moved = unpack({far.counts, far.sums});
  const Tally all = tally.all();
  EXPECT_GT(all.right, 0);
  EXPECT_LT(all.counted, all.replies);  // wrong ones and cut ones are left out
  EXPECT_EQ(all.counted, moved.all().counted);
  EXPECT_EQ(all.tokens, moved.all().tokens);
  EXPECT_EQ(tally.loss.tokens, moved.loss.tokens);
  EXPECT_GT(moved.loss.sum, tally.loss.sum);  // what the base wrote is likeliest under the base
  EXPECT_NE(near.gradient, far.gradient);
  EXPECT_EQ(tally.mismatch_tokens, 0);
}

// The reward of a step is per text that counts: what is half right has no part in it.
TEST(NextToken, TheRewardIsOfWhatIsTrainedOn) {
  Config config = Bench::make_config("float32");
  RewardSpec anything = config.tasks[0].rewards[0];
  anything.pattern = "(?s).";
  config.tasks[0].rewards.push_back(anything);
  Bench bench(config);
  bench.plan.rules.method = Method::kRightReplies;
  const Policy policy = enforce(bench.base, bench.crew, bench.ones(), Apply::kMerged);
  bench.config.train.prompts_per_chunk = 4;
  const FinishedChunk chunk = compute_chunk(bench.base, policy, bench.plan.rules, 0,
                                            bench.plan.prompts(bench.config, 0, 0));
  const ChunkTally tally = unpack({chunk.counts, chunk.sums});
  EXPECT_GT(tally.all().counted, 0);
  EXPECT_LT(tally.all().counted, tally.all().replies);
  EXPECT_EQ(tally.reward_sum, double(tally.all().counted));
}

// Seeds, samples and z of two experts whose replies are written in one batch.
struct Pair {
  Bench bench;
  std::vector<std::vector<float>> z;
  std::vector<ChunkRules> rules;

  Pair() : z(2, bench.ones()), rules(2, bench.plan.rules) {
    for (size_t i = 0; i < z[0].size(); ++i) z[0][i] += i % 2 ? 0.02f : -0.02f, z[1][i] += 0.01f;
    rules[1].seed = 5;
    rules[1].samples = 6;
    rules[1].expert = 1;
  }
  std::vector<ChunkPrompt> prompts(size_t expert, int entry) const {
    std::vector<ChunkPrompt> of = bench.plan.prompts(bench.config, int64_t(expert) * 8, 1);
    for (ChunkPrompt& prompt : of) prompt.entry = entry;
    return of;
  }
  FinishedChunk alone(size_t expert) {
    const Policy policy = enforce(bench.base, bench.crew, z[expert], Apply::kActivation);
    return compute_chunk(bench.base, policy, rules[expert], 1, prompts(expert, kOnlyExpert));
  }
};

TEST(Chunk, ExpertsTogetherHaveTheBitsOfEachAlone) {
  Pair pair;
  const std::vector<Policy> policies = enforce_beside(pair.bench.base, pair.z);
  const std::vector<FinishedChunk> together =
      compute_together(pair.bench.base, {{&policies[0], pair.rules[0], 1, pair.prompts(0, 1)},
                                         {&policies[1], pair.rules[1], 1, pair.prompts(1, 2)}});
  for (size_t e = 0; e < 2; ++e) {
    const FinishedChunk alone = pair.alone(e);
    EXPECT_EQ(together[e].gradient, alone.gradient);
    EXPECT_GT(alone.groups, 0);
    EXPECT_EQ(together[e].counts, alone.counts);
    EXPECT_EQ(together[e].texts, alone.texts);
    EXPECT_EQ(together[e].z_hash, alone.z_hash);
    EXPECT_EQ(together[e].expert, int(e));
    EXPECT_EQ(unpack({together[e].counts, together[e].sums}).mismatch_max, 0);
  }
  EXPECT_NE(together[0].z_hash, together[1].z_hash);
  // What they have of their own is a row of one table: no weights.
  EXPECT_EQ(policies[0].table, policies[1].table);
  EXPECT_EQ(policies[0].table->size(), 3);  // with the base
  EXPECT_FALSE(policies[0].merged || policies[1].merged);
}

// All rows of the first expert: its receipt gives it away, and nothing is trained on it.
TEST(Chunk, AForgottenEntryIsRefused) {
  Pair pair;
  const std::vector<Policy> policies = enforce_beside(pair.bench.base, pair.z);
  const auto second = [&](int entry) {
    return compute_together(pair.bench.base,
                            {{&policies[1], pair.rules[1], 1, pair.prompts(1, entry)}})[0];
  };
  EXPECT_NO_THROW(check_receipt(second(2), 0, policies[1].hash));
  const FinishedChunk forgotten = second(kOnlyExpert);
  EXPECT_NE(forgotten.gradient, second(2).gradient);
  EXPECT_THROW(check_receipt(forgotten, 0, policies[1].hash), Error);
}

// Where they would not share a batch, that is said.
TEST(Chunk, TablesAreNotMixed) {
  Pair pair;
  const std::vector<Policy> one = enforce_beside(pair.bench.base, pair.z),
                            other = enforce_beside(pair.bench.base, pair.z);
  EXPECT_THROW(
      compute_together(pair.bench.base, {{&one[0], pair.rules[0], 1, pair.prompts(0, 1)},
                                         {&other[1], pair.rules[1], 1, pair.prompts(1, 2)}}),
      Error);
}

}  // namespace
}  // namespace svfleet
