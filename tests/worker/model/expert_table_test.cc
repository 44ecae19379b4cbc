// Rows of one batch that name different experts: each gets what it gets alone, with one product a
// weight; and no expert sees a prefix of another.
#include "worker/model/expert_table.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <random>
#include <set>

#include "comm/error.h"
#include "tests/worker/model/fixtures.h"
#include "worker/model/generate.h"
#include "worker/model/gradient.h"
#include "worker/model/roots.h"

namespace svfleet {
namespace {

constexpr int kEntries = 32;
constexpr int kMixture = kEntries - 1;

// A model with a table of the base, 30 experts and a mixture of two of these.
struct Bench {
  Weights weights;
  Basis basis;
  ExpertTable table;
  std::mt19937 random{7};

  Bench(const std::string& name, at::ScalarType type)
      : weights(tiny_folder(name), type),
        basis(decompose_all(weights, {"all"}), weights),
        table(basis) {
    for (int e = 1; e < kMixture; ++e) table.add(some_z());
    EXPECT_EQ(table.add_mixture({{3, 0.75}, {9, -0.5}}), kMixture);
  }
  std::vector<float> some_z() {
    std::vector<float> z(size_t(total_length(basis.targets())));
    for (float& value : z) value = 1 + 0.3f * (float(random() % 2001) / 1000 - 1);
    return z;
  }
  std::vector<int> some_tokens(size_t count, std::vector<int> start = {}) {
    while (start.size() < count) start.push_back(int(random() % 250));
    return start;
  }
  Adapter adapter() const { return {Apply::kActivation, &table, nullptr}; }
  // Of the last token of a sequence of its own [vocabulary].
  at::Tensor alone(const std::vector<int>& tokens, int entry) const {
    return last(forward(weights, adapter(), one_sequence(tokens, entry)));
  }
  at::Tensor merged(const std::vector<int>& tokens, int entry) const {
    const Merged own(weights, basis, table.z(entry));
    return last(forward(weights, {Apply::kMerged, nullptr, &own}, one_sequence(tokens)));
  }
  at::Tensor last(const at::Tensor& hidden) const {
    return weights.head().logits(hidden.narrow(0, hidden.size(0) - 1, 1))[0];
  }
};

double gap(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

// How far rows may be from what they are alone, of the largest logit. In bfloat16 the same rows of
// a product are the same bits, but attention and the bias added after a rounding are not: a few
// roundings of 2^-9 over four layers.
double bound(at::ScalarType type) {
  return type == at::kFloat ? 1e-5 : 0.05;
}

// Products with a frozen weight of a layer that `work` makes.
int64_t products(const Weights& weights, const std::function<void()>& work) {
  static std::set<const void*> storages;
  static int64_t count;
  storages.clear(), count = 0;
  for (int i = 0; i < weights.architecture().layers; ++i)
    for (const Linear& linear : weights.layer(i).linears)
      storages.insert(linear.weight.storage().data());
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& op)
                                     -> std::unique_ptr<at::ObserverContext> {
        const std::string name = op.name();
        if (name != "aten::mm" && name != "aten::addmm" && name != "aten::bmm") return nullptr;
        for (const c10::IValue& input : op.inputs())
          if (input.isTensor() && input.toTensor().defined())
            count += storages.count(input.toTensor().storage().data()) > 0;
        return nullptr;
      }).needsInputs(true));
  work();
  at::removeCallback(handle);
  return count;
}

// Prompts of equal length, one a row; long ones take another way through the table.
struct Rows32 {
  std::vector<std::vector<int>> tokens;
  std::vector<int> entries;
  Batch batch;

  Rows32(Bench& bench, size_t length) {
    for (int e = 0; e < kEntries; ++e) {
      tokens.push_back(bench.some_tokens(length));
      entries.push_back(e);
    }
    pack();
  }
  void pack() {
    batch = {};
    for (size_t i = 0; i < tokens.size(); ++i) add_rest({&tokens[i], entries[i]}, -1, batch);
  }
  // Each row's last logits.
  std::vector<at::Tensor> logits(const Bench& bench) const {
    const at::Tensor hidden = forward(bench.weights, bench.adapter(), batch);
    std::vector<at::Tensor> out;
    for (const Segment& s : batch.segments)
      out.push_back(bench.last(hidden.narrow(0, s.start, s.length)));
    return out;
  }
};

TEST(ExpertTable, RowsOf32EntriesGetWhatTheyGetAlone) {
  c10::NoGradGuard no_grad;
  for (const char* name : kTinyModels)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const size_t length : {7, 80}) {
        Bench bench(name, type);
        Rows32 rows(bench, length);
        const std::vector<at::Tensor> together = rows.logits(bench);
        double worst = 0, from_merged = 0, shuffled = 1;
        for (int e = 0; e < kEntries; ++e) {
          worst = std::max(worst, gap(together[e], bench.alone(rows.tokens[e], e)));
          from_merged = std::max(from_merged, gap(together[e], bench.merged(rows.tokens[e], e)));
        }
        std::rotate(rows.entries.begin(), rows.entries.begin() + 1, rows.entries.end());
        rows.pack();
        const std::vector<at::Tensor> wrong = rows.logits(bench);
        for (int e = 0; e < kEntries; ++e)
          shuffled = std::min(shuffled, gap(wrong[e], together[e]));
        EXPECT_LT(worst, bound(type)) << name << length;
        EXPECT_LT(from_merged, type == at::kFloat ? 2e-4 : 0.1) << name << length;
        EXPECT_GT(shuffled, 2 * bound(type)) << name << length;  // control
        std::cout << name << " " << type << " " << length << ": " << worst << " apart, "
                  << from_merged << " from W', " << shuffled << " shuffled\n";
      }
}

TEST(ExpertTable, AStepOfTheDecodingLoopWith32Entries) {
  c10::NoGradGuard no_grad;
  constexpr int64_t kLength = 9;
  for (const char* name : kTinyModels)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Bench bench(name, type);
      Rows32 rows(bench, kLength);
      std::vector<LayerKv> kv;
      forward(bench.weights, bench.adapter(), rows.batch, &kv);
      const auto cache_of = [&](int64_t first, int64_t count) {
        DecodeCache cache;
        cache.filled = kLength;
        cache.mask = at::zeros({count, kLength + 1}, kv[0].k.options());
        for (const LayerKv& layer : kv)
          for (const bool keys : {true, false}) {
            const at::Tensor& all = keys ? layer.k : layer.v;  // [rows * length, heads, d]
            (keys ? cache.k : cache.v)
                .push_back(at::constant_pad_nd(all.view({kEntries, kLength, all.size(1), -1})
                                                   .narrow(0, first, count)
                                                   .transpose(1, 2),
                                               {0, 0, 0, 1}));
          }
        return cache;
      };
      const std::vector<int> next = bench.some_tokens(kEntries);
      const auto step = [&](const std::vector<int>& entries) {
        DecodeCache cache = cache_of(0, kEntries);
        return decode(bench.weights, bench.adapter(),
                      {next, std::vector<int64_t>(kEntries, kLength), entries}, cache);
      };
      at::Tensor together;
      const int64_t made = products(bench.weights, [&] { together = step(rows.entries); });
      // As many as for one expert, and one for each of the seven linears of a layer.
      EXPECT_EQ(made, products(bench.weights, [&] { step({}); }));
      EXPECT_EQ(made, 7 * bench.weights.architecture().layers);
      double worst = 0, shuffled = 1;
      int64_t one_by_one = 0;
      std::vector<int> other = rows.entries;
      std::rotate(other.begin(), other.begin() + 1, other.end());
      const at::Tensor wrong = step(other);
      for (int e = 0; e < kEntries; ++e) {
        const at::Tensor own = bench.last(together.narrow(0, e, 1));
        one_by_one += products(bench.weights, [&] {
          DecodeCache cache = cache_of(e, 1);
          worst = std::max(worst, gap(own, bench.last(decode(bench.weights, bench.adapter(),
                                                             {{next[e]}, {kLength}, {e}}, cache))));
        });
        shuffled = std::min(shuffled, gap(bench.last(wrong.narrow(0, e, 1)), own));
        std::vector<int> whole = rows.tokens[e];
        whole.push_back(next[e]);
        EXPECT_LT(gap(own, bench.alone(whole, e)), 2 * bound(type)) << name << e;
      }
      EXPECT_EQ(one_by_one, kEntries * made);  // control: the count sees each product
      EXPECT_LT(worst, bound(type)) << name;
      EXPECT_GT(shuffled, 2 * bound(type)) << name;  // control
      std::cout << name << " " << type << " decode: " << worst << " apart, " << shuffled
                << " shuffled, " << made << " products\n";
    }
}

TEST(ExpertTable, EntriesAloneAreTheBaseBitForBit) {
  c10::NoGradGuard no_grad;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Bench bench("tiny_qwen2", type);
    const std::vector<int> tokens = bench.some_tokens(9);
    const Merged some(bench.weights, bench.basis, bench.table.z(4));
    const at::Tensor base = forward(bench.weights, Adapter(), one_sequence(tokens));
    for (const Adapter& adapter : {bench.adapter(), Adapter(Apply::kMerged, nullptr, &some)}) {
      EXPECT_TRUE(
          at::equal(forward(bench.weights, adapter, one_sequence(tokens, kBaseEntry)), base));
      EXPECT_FALSE(at::equal(forward(bench.weights, adapter, one_sequence(tokens, 1)), base));
    }
    // W' is of one z.
    Batch two = one_sequence(tokens, 0);
    add_rest({&tokens, 1}, -1, two);
    EXPECT_NO_THROW(forward(bench.weights, bench.adapter(), two));
    EXPECT_THROW(forward(bench.weights, {Apply::kMerged, nullptr, &some}, two), Error);
    EXPECT_THROW(forward(bench.weights, bench.adapter(), one_sequence(tokens, kEntries)), Error);
  }
}

TEST(ExpertTable, IsAValueWithAHashPerEntry) {
  Bench bench("tiny_llama3", at::kFloat);
  ExpertTable& table = bench.table;
  const ExpertTable before = table;
  const std::vector<float> z = bench.some_z();
  const int added = table.add(z);
  EXPECT_EQ(added, kEntries);
  EXPECT_EQ(table.size(), kEntries + 1);
  EXPECT_EQ(before.size(), kEntries);
  EXPECT_EQ(before.d(0).size(0), kEntries);
  EXPECT_EQ(table.z(added), z);
  EXPECT_EQ(table.hash(added), z_hash(as_expert(bench.basis, z)));
  EXPECT_NE(table.hash(added), table.hash(added - 1));
  EXPECT_EQ(table.d(2)[kBaseEntry].count_nonzero().item<int64_t>(), 0);
  // The mixture is an expert like others.
  std::vector<float> mixed;
  for (size_t i = 0; i < z.size(); ++i)
    mixed.push_back(
        float(1 + 0.75 * (double(table.z(3)[i]) - 1) - 0.5 * (double(table.z(9)[i]) - 1)));
  EXPECT_EQ(table.z(kMixture), mixed);
  EXPECT_EQ(table.hash(kMixture), table.hash(table.add(mixed)));
}

TEST(Roots, OneForEachEntryAndPrefix) {
  const std::vector<int> a = {1, 2, 3, 4}, b = {1, 2, 5}, c = {1, 2, 3, 9, 9}, d = {7, 7};
  Batch batch;
  const std::vector<int> roots = add_roots({{&a, 1}, {&b, 2}, {&b, 1}, {&c, 2}, {&d, 3}}, batch);
  EXPECT_EQ(roots, (std::vector<int>{0, 1, 0, 1, -1}));
  EXPECT_EQ(batch.tokens, (std::vector<int>{1, 2, 1, 2}));
  EXPECT_EQ(batch.segments[0].entry, 1);
  EXPECT_EQ(batch.segments[1].entry, 2);
  const int rest = add_rest({&c, 2}, 1, batch);
  EXPECT_EQ(batch.segments[rest].parent, 1);
  EXPECT_EQ(batch.segments[rest].position, 2);
  EXPECT_EQ(batch.tokens, (std::vector<int>{1, 2, 1, 2, 3, 9, 9}));
}

// Four prompts with the same start, two of each of two experts.
TEST(Roots, ExpertsShareNoPrefix) {
  c10::NoGradGuard no_grad;
  Bench bench("tiny_llama3", at::kFloat);
  const std::vector<int> start = bench.some_tokens(6);
  std::vector<std::vector<int>> prompts, replies;
  std::vector<ReplyGroup> groups;
  for (int i = 0; i < 4; ++i) {
    prompts.push_back(bench.some_tokens(size_t(9 + i), start));
    replies.push_back(bench.some_tokens(5));
  }
  for (int i = 0; i < 4; ++i) groups.push_back({&prompts[i], {{&replies[i]}}, 3 + 2 * (i % 2)});
  const ReplyLogProbs together = reply_log_probs(bench.weights, bench.adapter(), groups, 1);
  for (int i = 0; i < 4; ++i) {
    const auto own = reply_log_probs(bench.weights, bench.adapter(), {groups[i]}, 1)[0][0];
    for (size_t t = 0; t < own.size(); ++t) EXPECT_NEAR(together[i][0][t], own[t], 1e-4);
  }
  // A tree that shares it is refused; control: it would give other logits.
  Batch shared = one_sequence(start, 3);
  add_rest({&prompts[1], 5}, 0, shared);
  EXPECT_THROW(forward(bench.weights, bench.adapter(), shared), Error);
  const auto last_token_after_a_prefix_of = [&](int entry) {
    std::vector<LayerKv> kv;
    forward(bench.weights, bench.adapter(), one_sequence(start, entry), &kv);
    DecodeCache cache;
    cache.filled = 6;
    cache.mask = at::zeros({1, 7});
    for (const LayerKv& layer : kv) {
      cache.k.push_back(at::constant_pad_nd(layer.k.transpose(0, 1).unsqueeze(0), {0, 0, 0, 1}));
      cache.v.push_back(at::constant_pad_nd(layer.v.transpose(0, 1).unsqueeze(0), {0, 0, 0, 1}));
    }
    return bench.last(decode(bench.weights, bench.adapter(), {{prompts[1][6]}, {6}, {5}}, cache));
  };
  const at::Tensor truth =
      bench.alone(std::vector<int>(prompts[1].begin(), prompts[1].begin() + 7), 5);
  EXPECT_LT(gap(last_token_after_a_prefix_of(5), truth), 1e-5);
  EXPECT_GT(gap(last_token_after_a_prefix_of(3), truth), 1e-2);
}

TEST(Generate, PromptsNameTheirEntries) {
  for (const char* name : kTinyModels) {
    Bench bench(name, at::kFloat);
    const Tokenizer tokenizer = Tokenizer::load(tiny_folder(name));
    const std::vector<int> start = tokenizer.encode("Which number is the largest: ");
    std::vector<Prompt> prompts;
    for (int i = 0; i < 8; ++i) {
      Prompt& prompt = prompts.emplace_back();
      prompt.tokens = bench.some_tokens(start.size() + 2 + size_t(i % 3), start);
      prompt.key = i;
      prompt.max_new_tokens = 12;
      prompt.entry = i < 6 ? i / 2 : kMixture;
    }
    const SamplingOptions options{.temperature = 1, .seed = 5};
    const auto run = [&](const std::vector<Prompt>& some) {
      return generate(bench.weights, tokenizer, bench.adapter(), some, 2, options);
    };
    const std::vector<Rollout> together = run(prompts);
    size_t equal = 0, all = 0, other = 0;
    for (int i = 0; i < 8; ++i) {
      const std::vector<Rollout> alone = run({prompts[i]});
      Prompt renamed = prompts[i];
      renamed.entry = 20;
      const std::vector<Rollout> control = run({renamed});
      for (int s = 0; s < 2; ++s) {
        const Rollout& reply = together[size_t(2 * i + s)];
        EXPECT_NEAR(reply.log_probs[0], alone[s].log_probs[0], 1e-3) << name << i;
        for (size_t t = 0; t < reply.tokens.size(); ++t, ++all) {
          equal += t < alone[s].tokens.size() && reply.tokens[t] == alone[s].tokens[t];
          other += t < control[s].tokens.size() && reply.tokens[t] == control[s].tokens[t];
        }
      }
    }
    EXPECT_GT(double(equal), 0.95 * double(all)) << name;
    EXPECT_LT(double(other), 0.8 * double(all)) << name;
  }
}

TEST(Gradient, GroupsOfSeveralEntriesGetTheirOwn) {
  Bench bench("tiny_qwen2", at::kFloat);
  const std::vector<int> start = bench.some_tokens(5);
  std::vector<std::vector<int>> prompts, replies;
  for (int i = 0; i < 4; ++i) {
    prompts.push_back(bench.some_tokens(size_t(8 + i), start));
    replies.push_back(bench.some_tokens(6));
  }
  std::vector<ReplyGroup> groups;
  for (int i = 0; i < 4; ++i)
    groups.push_back({&prompts[i], {{&replies[i], 0.5 + i, 0.2}}, i % 2 ? kMixture : 2});
  const GradientOptions options{0.8, KlLoss::kK2};
  const GradientResult together = z_gradient(bench.weights, bench.adapter(), groups, options);
  EXPECT_EQ(together.entries, (std::vector<int>{2, kMixture}));
  const size_t all = bench.table.z(0).size();
  ASSERT_EQ(together.dz.size(), 2 * all);
  const at::Tensor dz = at::tensor(together.dz).view({2, -1});
  for (int e = 0; e < 2; ++e) {
    const GradientResult own =
        z_gradient(bench.weights, bench.adapter(), {groups[e], groups[e + 2]}, options);
    EXPECT_EQ(own.entries, std::vector<int>{together.entries[e]});
    EXPECT_LT(gap(dz[e], at::tensor(own.dz)), 1e-4);
    EXPECT_GT(gap(dz[1 - e], at::tensor(own.dz)), 0.05);  // control
  }
}

// The receipts read z from W'; a rebuilt W' is a new one to the bit, and says how much is new.
TEST(Merged, IsRebuiltFromTheOneBefore) {
  Bench bench("tiny_llama3", at::kFloat);
  const auto in_order = [](int64_t count, const std::function<void(int64_t)>& work) {
    for (int64_t i = count; i-- > 0;) work(i);
  };
  Merged first(bench.weights, bench.basis, bench.table.z(1));
  EXPECT_EQ(first.z(), bench.table.z(1));
  EXPECT_GT(first.changed_share(), 0.9);
  const Merged fresh(bench.weights, bench.basis, bench.table.z(2));
  Merged second(bench.weights, bench.basis, bench.table.z(2), std::move(first), in_order);
  EXPECT_EQ(second.z(), bench.table.z(2));
  for (size_t t = 0; t < bench.basis.targets().size(); ++t)
    EXPECT_TRUE(at::equal(second.weight(t), fresh.weight(t)));
  EXPECT_GT(second.changed_share(), 0.9);
  const Merged same(bench.weights, bench.basis, bench.table.z(2), std::move(second), in_order);
  EXPECT_EQ(same.changed_share(), 0);
}

}  // namespace
}  // namespace svfleet
