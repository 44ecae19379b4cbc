// Rows of one batch that name different experts: each gets what it gets alone, with one product a
// weight; and no expert sees a prefix of another.
#include "worker/model/expert_table.h"

#include <ATen/ATen.h>
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
    return last(hidden_of(weights, adapter(), tokens, entry));
  }
  at::Tensor merged(const std::vector<int>& tokens, int entry) const {
    const Merged own(weights, basis, table.z(entry));
    return last(hidden_of(weights, {Apply::kMerged, &table, &own}, tokens, entry));
  }
  at::Tensor last(const at::Tensor& hidden) const {
    return weights.head().logits(hidden.narrow(0, hidden.size(0) - 1, 1))[0];
  }
};

double gap(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

// Products with a weight of a layer that `work` makes.
int64_t products(const Weights& weights, const std::function<void()>& work) {
  const auto all = [&] {
    int64_t count = 0;
    for (int i = 0; i < weights.architecture().layers; ++i)
      for (const Linear& linear : weights.layer(i).linears) count += linear.weight.products();
    return count;
  };
  const int64_t before = all();
  work();
  return all() - before;
}

// Prompts, one a row.
struct Rows32 {
  std::vector<std::vector<int>> tokens;
  std::vector<int> entries;

  Rows32(Bench& bench, size_t length) {
    for (int e = 0; e < kEntries; ++e) {
      tokens.push_back(bench.some_tokens(length + size_t(e % 5)));
      entries.push_back(e);
    }
  }
  std::vector<Segment> segments() const {
    std::vector<Segment> all;
    for (size_t i = 0; i < tokens.size(); ++i) all.push_back({tokens[i], -1, entries[i]});
    return all;
  }
  // Each row's last logits.
  std::vector<at::Tensor> logits(const Bench& bench) const {
    PagePool pool(bench.weights);
    const TreePass tree(segments(), pool);
    const at::Tensor hidden = forward(bench.weights, bench.adapter(), tree.pass(), pool);
    std::vector<at::Tensor> out;
    for (int i = 0; i < kEntries; ++i)
      out.push_back(bench.last(hidden.narrow(0, tree.first_row(i), int64_t(tokens[i].size()))));
    return out;
  }
};

// In a model's own bfloat16, where W' and the activation form round by keys.
TEST(ExpertTable, AnExpertIsTheSameWhateverElseMayMove) {
  c10::NoGradGuard no_grad;
  const Weights weights(tiny_folder("tiny_llama3"), at::kBFloat16);
  const Basis own(decompose_all(weights, {"attention"}), weights),
      all(decompose_all(weights, {"all"}), weights);
  std::mt19937 random{3};
  std::vector<float> z(size_t(own.size())), padded = all.at_rest();
  for (float& value : z) value = 1 + 0.3f * (float(random() % 2001) / 1000 - 1);
  ExpertTable alone(own), beside(all);
  std::vector<size_t> there;
  for (size_t t = 0; t < own.targets().size(); ++t) {
    const Core::Part from = own.core().part(t);
    for (size_t u = 0; u < all.targets().size(); ++u)
      if (all.targets()[u].name == own.targets()[t].name) {
        there.push_back(u);
        std::copy_n(z.begin() + from.offset, from.length,
                    padded.begin() + all.core().part(u).offset);
      }
  }
  alone.add(z), beside.add(padded);
  const Merged merged(weights, own, z), merged_beside(weights, all, padded);
  size_t other_keys = 0;  // the control: the place among all targets as the key
  const auto keys = rounding_keys(own, z);
  for (size_t t = 0; t < there.size(); ++t) {
    EXPECT_TRUE(at::equal(merged.weight(t).plain(), merged_beside.weight(there[t]).plain())) << t;
    other_keys += t != there[t] && !at::equal(merged_weight(weights, own, t, z, keys[t] + 1).sum,
                                              merged.weight(t).plain());
  }
  EXPECT_GT(other_keys, 0u);
  const std::vector<int> tokens{5, 9, 77, 31, 200, 8};
  EXPECT_TRUE(at::equal(hidden_of(weights, {Apply::kActivation, &alone, nullptr}, tokens),
                        hidden_of(weights, {Apply::kActivation, &beside, nullptr}, tokens)));
}

TEST(ExpertTable, RowsOf32EntriesGetToTheBitWhatTheyGetAlone) {
  for (const char* name : kTinyModels)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const size_t length : {7, 80}) {
        Bench bench(name, type);
        Rows32 rows(bench, length);
        const std::vector<at::Tensor> together = rows.logits(bench);
        double from_merged = 0, shuffled = 1;
        for (int e = 0; e < kEntries; ++e) {
          EXPECT_TRUE(at::equal(together[e], bench.alone(rows.tokens[e], e))) << name << length;
          from_merged = std::max(from_merged, gap(together[e], bench.merged(rows.tokens[e], e)));
        }
        std::rotate(rows.entries.begin(), rows.entries.begin() + 1, rows.entries.end());
        const std::vector<at::Tensor> wrong = rows.logits(bench);
        for (int e = 0; e < kEntries; ++e)
          shuffled = std::min(shuffled, gap(wrong[e], together[e]));
        // In bfloat16 two ways to round by chance, of up to a unit in the last place each.
        EXPECT_LT(from_merged, type == at::kFloat ? 2e-4 : 0.15) << name << length;
        EXPECT_GT(shuffled, 0) << name << length;  // control
        std::cout << name << " " << type << " " << length << ": " << from_merged << " from W', "
                  << shuffled << " shuffled\n";
      }
}

TEST(ExpertTable, ADecodingStepMakesOneProductAWeightForAllEntries) {
  for (const char* name : kTinyModels) {
    Bench bench(name, at::kBFloat16);
    Rows32 rows(bench, 9);
    const int64_t layers = bench.weights.architecture().layers;
    const Tokenizer tokenizer = Tokenizer::load(tiny_folder(name));
    const auto of_a_step = [&](int count) {
      Engine engine(bench.weights, tokenizer, bench.adapter(), {.temperature = 1});
      for (int e = 0; e < count; ++e) {
        Prompt prompt{rows.tokens[size_t(e)], e, 30, {}};
        prompt.entry = e;
        engine.submit({prompt});
      }
      engine.step();
      EXPECT_GT(engine.rows(), count / 2);
      return products(bench.weights, [&] { engine.step(); });
    };
    EXPECT_EQ(of_a_step(kEntries), 7 * layers) << name;
    EXPECT_EQ(of_a_step(1), 7 * layers) << name;
  }
}

TEST(ExpertTable, EntriesAloneAreTheBaseBitForBit) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Bench bench("tiny_qwen2", type);
    const std::vector<int> tokens = bench.some_tokens(9);
    const Merged some(bench.weights, bench.basis, bench.table.z(4));
    const at::Tensor base = hidden_of(bench.weights, Adapter(), tokens);
    const Adapter merged(Apply::kMerged, &bench.table, &some);
    EXPECT_TRUE(at::equal(hidden_of(bench.weights, bench.adapter(), tokens, kBaseEntry), base));
    EXPECT_TRUE(at::equal(hidden_of(bench.weights, merged, tokens, kBaseEntry), base));
    EXPECT_FALSE(at::equal(hidden_of(bench.weights, bench.adapter(), tokens, 4), base));
    EXPECT_FALSE(at::equal(hidden_of(bench.weights, merged, tokens, 4), base));
    // The base beside others.
    PagePool pool(bench.weights);
    const TreePass two({{tokens, -1, 3}, {tokens, -1, kBaseEntry}}, pool);
    const at::Tensor both = forward(bench.weights, bench.adapter(), two.pass(), pool);
    EXPECT_TRUE(at::equal(both.narrow(0, 9, 9), base));
    EXPECT_FALSE(at::equal(both.narrow(0, 0, 9), base));
    // W' is of one z.
    EXPECT_THROW(forward(bench.weights, merged, two.pass(), pool), Error);
    EXPECT_THROW(hidden_of(bench.weights, merged, tokens, 5), Error);
    EXPECT_THROW(hidden_of(bench.weights, bench.adapter(), tokens, kEntries), Error);
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

// Experts of few components: only their columns of Q are read, and no bit is another one. What all
// of Q gives is had from the same entries beside one that moves everything.
TEST(ExpertTable, ColumnsThatNoEntryMovesAreNotReadAndNoBitChanges) {
  for (const char* name : kTinyModels)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      Bench bench(name, type);
      ExpertTable few(bench.basis);
      const size_t targets = bench.basis.targets().size();
      for (int e = 1; e < 6; ++e) {
        std::vector<float> z = bench.some_z();
        for (size_t t = 0; t < targets; ++t) {
          const Core::Part part = bench.basis.core().part(t);
          // The last components, an odd number of them.
          std::fill_n(z.begin() + part.offset, part.length - 11 + e, 1.0f);
        }
        few.add(z);
      }
      ExpertTable all = few;
      all.add(bench.some_z());
      size_t thin = 0;
      for (size_t t = 0; t < targets; ++t) {
        EXPECT_FALSE(all.moved(t).columns);
        EXPECT_EQ(all.moved(t).d.size(1), bench.basis.targets()[t].length());
        const auto& columns = few.moved(t).columns;
        if (bench.basis.targets()[t].length() < 2 * kColumnBlock) continue;
        ASSERT_TRUE(columns) << name << t;
        EXPECT_EQ(columns->places.size() % size_t(kColumnBlock), 0u);
        EXPECT_EQ(columns->places.back(), bench.basis.targets()[t].length() - 1);
        EXPECT_EQ(few.moved(t).d.size(1), int64_t(columns->places.size()));
        ++thin;
      }
      EXPECT_GT(thin, 0u) << name;
      const std::vector<int> tokens = bench.some_tokens(19);
      const Adapter thinner(Apply::kActivation, &few, nullptr),
          whole(Apply::kActivation, &all, nullptr);
      const at::Tensor base = hidden_of(bench.weights, Adapter(), tokens);
      for (int e = 1; e < few.size(); ++e) {
        const at::Tensor own = hidden_of(bench.weights, thinner, tokens, e);
        EXPECT_TRUE(at::equal(own, hidden_of(bench.weights, whole, tokens, e)))
            << name << type << e;
        EXPECT_FALSE(at::equal(own, base)) << name << type << e;  // it does move something
      }
      // Beside each other, and beside the base.
      PagePool pool(bench.weights), other(bench.weights);
      std::vector<Segment> rows;
      for (int e = 0; e < few.size(); ++e) rows.push_back({tokens, -1, e});
      const TreePass some(rows, pool), same(rows, other);
      const at::Tensor together = forward(bench.weights, thinner, some.pass(), pool);
      EXPECT_TRUE(at::equal(together, forward(bench.weights, whole, same.pass(), other))) << name;
      EXPECT_TRUE(at::equal(together.narrow(0, 0, 19), base)) << name;
    }
}

// Of svd.components the chosen ones are, once a run has asked for them, whatever z is yet, and they
// stand among what is watched.
TEST(ExpertTable, ChosenComponentsAreOneMatrixForAllOfARun) {
  const Weights weights(tiny_folder("tiny_llama3"), at::kBFloat16);
  CoreOptions options;
  options.components = {Components::kBottom, 8};
  const Basis basis(decompose_all(weights, {"mlp"}), weights, options);
  const Basis all(decompose_all(weights, {"mlp"}), weights);
  EXPECT_EQ(basis.frozen().size(), all.frozen().size());  // the merged form does not pay for them
  for (size_t t = 0; t < basis.targets().size(); ++t) {
    basis.choose_columns(t);
    all.choose_columns(t);
  }
  EXPECT_GT(basis.frozen().size(), all.frozen().size());
  std::vector<float> z = basis.at_rest();
  ExpertTable start(basis);
  start.add(z);
  const Core::Range chosen = basis.core().chosen(0);
  z[size_t(basis.core().part(0).offset + chosen.first)] = 1.25f;
  ExpertTable later(basis);
  later.add(z);
  ASSERT_TRUE(start.moved(0).columns);
  EXPECT_EQ(start.moved(0).columns, later.moved(0).columns);
  EXPECT_GE(start.moved(0).columns->places.front(), chosen.first - kColumnBlock);
  // Control: what is not chosen is another matrix.
  z[size_t(basis.core().part(0).offset)] = 1.25f;
  ExpertTable other(basis);
  other.add(z);
  EXPECT_NE(other.moved(0).columns, later.moved(0).columns);
}

// Who watches memory may look at it after the basis has made other columns.
TEST(ExpertTable, WatchedColumnsStayWhenOthersAreMade) {
  const Weights weights(tiny_folder("tiny_llama3"), at::kBFloat16);
  const Basis basis(decompose_all(weights, {"mlp"}), weights);
  const size_t length = size_t(basis.targets()[0].length());
  ASSERT_GE(length, size_t(2 * kColumnBlock));
  std::vector<bool> first(length, false), last(length, false);
  first[0] = last[length - 1] = true;
  const size_t before = basis.frozen().size();
  basis.columns(0, first)->q.keep_packed(/*times=*/true, /*back=*/true, /*few_rows=*/false);
  const NamedTensors watched = basis.frozen();
  ASSERT_GT(watched.size(), before);
  std::vector<at::Tensor> as_they_were;
  for (const auto& [name, tensor] : watched) as_they_were.push_back(tensor.clone());
  basis.columns(0, last)->q.keep_packed(true, true, false);
  for (size_t i = 0; i < watched.size(); ++i)
    EXPECT_TRUE(at::equal(watched[i].second, as_they_were[i])) << watched[i].first;
}

TEST(QColumns, ArePlacedInWholeBlocks) {
  std::vector<bool> moved(3 * kColumnBlock + 5, false);
  EXPECT_TRUE(block_places(moved).empty());
  moved[kColumnBlock + 3] = moved.back() = true;
  const std::vector<int64_t> places = block_places(moved);
  ASSERT_EQ(places.size(), size_t(kColumnBlock) + 5);
  EXPECT_EQ(places.front(), kColumnBlock);
  EXPECT_EQ(places.back(), 3 * kColumnBlock + 4);
}

TEST(TreePass, ExpertsShareNoPrefix) {
  Bench bench("tiny_llama3", at::kFloat);
  const std::vector<int> start = bench.some_tokens(6);
  PagePool pool(bench.weights);
  const std::vector<Segment> shared = {{start, -1, 3}, {{1, 2}, 0, 5}};
  EXPECT_THROW(TreePass(shared, pool), Error);
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
    size_t all = 0, other = 0;
    for (int i = 0; i < 8; ++i) {
      const std::vector<Rollout> alone = run({prompts[i]});
      Prompt renamed = prompts[i];
      renamed.entry = 20;
      const std::vector<Rollout> control = run({renamed});
      for (int s = 0; s < 2; ++s) {
        const Rollout& reply = together[size_t(2 * i + s)];
        EXPECT_EQ(reply.tokens, alone[s].tokens) << name << i;
        EXPECT_EQ(reply.log_probs, alone[s].log_probs) << name << i;
        for (size_t t = 0; t < reply.tokens.size(); ++t, ++all)
          other += t < control[s].tokens.size() && reply.tokens[t] == control[s].tokens[t];
      }
    }
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
  ASSERT_EQ(together.dz.size(), 4u);
  for (size_t g = 0; g < groups.size(); ++g) {
    EXPECT_EQ(z_gradient(bench.weights, bench.adapter(), {groups[g]}, options).dz[0],
              together.dz[g]);
    ReplyGroup other = groups[g];
    other.entry = 7;  // control
    EXPECT_NE(z_gradient(bench.weights, bench.adapter(), {other}, options).dz[0], together.dz[g]);
  }
}

// The receipts read z from W'; a rebuilt W' is a new one to the bit.
TEST(Merged, IsRebuiltFromTheOneBefore) {
  Bench bench("tiny_llama3", at::kBFloat16);
  const auto in_order = [](int64_t count, const std::function<void(int64_t)>& work) {
    for (int64_t i = count; i-- > 0;) work(i);
  };
  const std::vector<int> tokens = bench.some_tokens(9);
  Merged first(bench.weights, bench.basis, bench.table.z(1));
  EXPECT_EQ(first.z(), bench.table.z(1));
  const Merged fresh(bench.weights, bench.basis, bench.table.z(2));
  const Merged second(bench.weights, bench.basis, bench.table.z(2), std::move(first), in_order);
  EXPECT_EQ(second.z(), bench.table.z(2));
  EXPECT_EQ(second.hash(), bench.table.hash(2));
  const auto seen = [&](const Merged& merged) {
    return hidden_of(bench.weights, {Apply::kMerged, &bench.table, &merged}, tokens, 2);
  };
  EXPECT_TRUE(at::equal(seen(second), seen(fresh)));
}

void in_order(int64_t count, const std::function<void(int64_t)>& work) {
  for (int64_t i = 0; i < count; ++i) work(i);
}

// As processes that share a merge do it: each builds its share over what it had of the z before,
// and takes the rest.
TEST(Merged, IsThatOfOneAloneWhereSeveralShareIt) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Bench bench("tiny_qwen2", type);
    const std::vector<float>&old = bench.table.z(1), &z = bench.table.z(2);
    const size_t targets = bench.basis.targets().size();
    const Merged alone(bench.weights, bench.basis, z);
    EXPECT_EQ(alone.built(), int64_t(targets));
    for (const int processes : {2, 3}) {
      const std::vector<int> shares = merge_shares(bench.basis, z, processes);
      std::vector<Merged> all;
      int64_t built = 0;
      for (int p = 0; p < processes; ++p) {
        std::vector<bool> wanted;
        for (const int share : shares) wanted.push_back(share == p);
        all.emplace_back(bench.weights, bench.basis, z, Merged(bench.weights, bench.basis, old),
                         in_order, wanted);
        built += all.back().built();
        EXPECT_FALSE(all.back().whole());
        EXPECT_NE(all.back().z(), z);  // a receipt of what is not whole is of no expert
      }
      EXPECT_EQ(built, int64_t(targets));  // none twice
      for (int p = 0; p < processes; ++p) {
        for (size_t t = 0; t < targets; ++t)
          if (shares[t] != p) {
            EXPECT_THROW(all[p].part(t), Error);
            all[p].take(bench.weights, z, t, all[shares[t]].part(t), "process");
          }
        EXPECT_TRUE(all[p].whole());
        EXPECT_EQ(all[p].z(), z);
        EXPECT_EQ(all[p].gain(), alone.gain());
        for (size_t t = 0; t < targets; ++t)
          EXPECT_TRUE(at::equal(all[p].weight(t).plain(), alone.weight(t).plain())) << t;
      }
      // Control: the W' of the z before is refused, and its giver named.
      const MergedPart stale = Merged(bench.weights, bench.basis, old).part(0);
      EXPECT_FALSE(at::equal(stale.weight, alone.weight(0).plain()));
      try {
        all[0].take(bench.weights, z, 0, stale, "rank 7 (host n3)");
        ADD_FAILURE() << "taken";
      } catch (const Error& error) {
        EXPECT_EQ(std::string(error.what()).find("rank 7 (host n3) gave W' of model.layers.0"), 0u)
            << error.what();
        EXPECT_EQ(error.code(), kExitRequeue);
      }
    }
  }
}

TEST(Merged, SharesAreAboutEqualAndLeaveOutWhatDoesNotMove) {
  Bench bench("tiny_llama3", at::kFloat);
  const std::vector<Target>& targets = bench.basis.targets();
  std::vector<float> z = bench.table.z(2);
  const Core::Part still = bench.basis.core().part(3);
  std::fill_n(z.begin() + still.offset, still.length, 1.0f);
  const std::vector<int> shares = merge_shares(bench.basis, z, 2);
  double work[2] = {}, most = 0;
  for (size_t t = 0; t < targets.size(); ++t) {
    const double own =
        double(targets[t].rows) * double(targets[t].cols) * double(targets[t].length());
    if (t == 3)
      EXPECT_EQ(shares[t], -1);
    else
      work[shares[t]] += own, most = std::max(most, own);
  }
  EXPECT_LE(std::abs(work[0] - work[1]), most);
  EXPECT_EQ(merge_shares(bench.basis, bench.basis.at_rest(), 2),
            std::vector<int>(targets.size(), -1));
}

}  // namespace
}  // namespace svfleet
