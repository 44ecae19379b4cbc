// Every family's decoder against transformers and against float64, and each flag of it against the
// same model without: a table of flags by families, which is compared with docs/models.md.
#include "worker/model/family.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <random>
#include <set>

#include "comm/error.h"
#include "tests/worker/model/fixtures.h"
#include "tests/worker/model/plain_loss.h"
#include "worker/model/engine.h"

namespace svfleet {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr double kLogitBound = 2e-4,
                 kGradientBound = 1e-6;  // of the largest; the latter in float64

// Folders of tests/data/models/families.
const char* const kFamilyModels[] = {
    "llama",        "llama_linear", "llama_dynamic", "llama_yarn", "mistral_window", "qwen3",
    "qwen3_window", "gemma2",       "gemma3_text",   "gemma3",     "gemma3_5",       "olmo2",
    "smollm3",      "granite",      "phi3",          "phi3_short"};

std::string folder_of(const std::string& name) {
  return source_folder() + "/tests/data/models/families/" + name;
}

struct FamilyModel {
  json expected;
  Weights weights;

  FamilyModel(const std::string& name, at::ScalarType type)
      : expected(read_fixture(folder_of(name) + "/expected.json")),
        weights(folder_of(expected["weights"]),
                read_architecture(folder_of(name), expected["max_length"].get<int64_t>()), type,
                at::kCPU) {}
  const Architecture& arch() const { return weights.architecture(); }
  std::vector<int> ids() const { return expected["logits"]["ids"].get<std::vector<int>>(); }
};

// Largest gap of the fixture's rows, of its largest logit.
double gap_to_fixture(const at::Tensor& logits, const json& rows) {
  double gap = 0, largest = 0;
  for (size_t i = 0; i < rows["positions"].size(); ++i) {
    const at::Tensor own = logits[rows["positions"][i].get<int64_t>()].to(at::kDouble).contiguous();
    const auto expected = rows["logits"][i].get<std::vector<double>>();
    for (size_t j = 0; j < expected.size(); ++j) {
      gap = std::max(gap, std::abs(own.data_ptr<double>()[j] - expected[j]));
      largest = std::max(largest, std::abs(expected[j]));
    }
  }
  return gap / largest;
}

TEST(Families, LogitsAreTransformers) {
  for (const char* name : kFamilyModels) {
    const FamilyModel model(name, at::kFloat), narrow(name, at::kBFloat16);
    const json& rows = model.expected["logits"];
    const double ours = gap_to_fixture(logits_of(model.weights, {}, model.ids()), rows),
                 plain = gap_to_fixture(PlainDecoder(model.weights).logits(model.ids()), rows),
                 bf16 = gap_to_fixture(logits_of(narrow.weights, {}, model.ids()), rows);
    std::printf("%-15s logits: ours %.1e, float64 %.1e, bfloat16 %.1e of the largest\n", name, ours,
                plain, bf16);
    EXPECT_LT(ours, kLogitBound) << name;
    EXPECT_LT(plain, kLogitBound) << name;
    EXPECT_LT(bf16, 0.08) << name;
  }
}

// Texts are not looked at: any tokenizer of 320 tokens does.
const Tokenizer& tokenizer() {
  static const Tokenizer loaded = Tokenizer::load(tiny_folder("tiny_qwen2"));
  return loaded;
}

std::vector<Rollout> replies(const Weights& weights, const Adapter& adapter,
                             const std::vector<std::vector<int>>& prompts, int samples, int tokens,
                             const SamplingOptions& options, int rows = 256) {
  Engine engine(weights, tokenizer(), adapter, options, rows);
  std::vector<int> numbers;
  for (int s = 0; s < samples; ++s) numbers.push_back(s);
  for (size_t p = 0; p < prompts.size(); ++p)
    engine.submit({{prompts[p], int64_t(p), tokens, {}}, numbers});
  std::vector<Rollout> all(prompts.size() * size_t(samples));
  while (!engine.idle())
    for (Engine::Finished& done : engine.step())
      all[size_t(done.request * samples + done.rollout.sample)] = std::move(done.rollout);
  return all;
}

// A token may differ only where transformers' two best logits are within 1e-4.
TEST(Families, GreedyTokensAreTransformers) {
  for (const char* name : kFamilyModels) {
    const FamilyModel model(name, at::kFloat);
    if (!model.expected.contains("greedy")) continue;
    const json& greedy = model.expected["greedy"];
    const auto expected = greedy["tokens"].get<std::vector<int>>();
    const auto own = replies(model.weights, {}, {greedy["ids"].get<std::vector<int>>()}, 1, 64,
                             {.temperature = 0})[0]
                         .tokens;
    ASSERT_EQ(own.size(), expected.size()) << name;
    for (size_t t = 0; t < own.size() && greedy["gaps"][t].get<double>() > 1e-4; ++t)
      ASSERT_EQ(own[t], expected[t]) << name << " at " << t;
  }
}

struct FamilySetting : FamilyModel {
  Basis basis;
  std::vector<float> z;
  std::vector<int> prompt, first, second;
  ReplyGroup group;

  FamilySetting(const std::string& name, at::ScalarType type)
      : FamilyModel(name, type),
        basis(decompose_all(weights, {"all"}), weights),
        z(size_t(total_length(basis.targets())), 1.0f) {
    const std::vector<int> all = ids();
    prompt = {all.begin(), all.begin() + 20};
    first = {all.begin() + 20, all.begin() + 40};
    second = {all.begin() + 40, all.begin() + 53};
    group = {&prompt, {{&first, 0.7, 0}, {&second, -1.1, 0}}};
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 0.2f);
    for (float& value : z) value += normal(random);
    for (const Target& target : basis.targets()) z[size_t(target.offset)] = 0;
  }

  Adapter adapter(Apply apply) {
    table_ = std::make_unique<ExpertTable>(basis);
    table_->add(z);
    if (apply == Apply::kMerged) merged_ = Merged(weights, basis, z);
    return {apply, table_.get(), &merged_};
  }
  std::vector<float> gradient(Apply apply) {
    return z_gradient(weights, adapter(apply), {group}, {}).dz[0];
  }

  std::vector<double> plain_gradient(const Architecture& arch) const {
    std::vector<at::Tensor> d = changes(basis, z), gradients;
    for (at::Tensor& leaf : d) leaf.requires_grad_(true);
    PlainDecoder policy(weights, arch);
    policy.adapt(basis, d);
    plain_loss(weights, policy, group, 1, KlLoss::kNone).backward();
    for (const at::Tensor& leaf : d) gradients.push_back(leaf.grad());
    return flat(gradients);
  }
  // The gradient of every full weight W', projected on z.
  std::vector<double> projected_weight_gradient() const {
    PlainDecoder policy(weights);
    policy.adapt(basis, changes(basis, z));
    for (const Target& target : basis.targets()) policy.matrix(target).requires_grad_(true);
    plain_loss(weights, policy, group, 1, KlLoss::kNone).backward();
    std::vector<at::Tensor> parts;
    PlainDecoder base(weights);
    for (size_t t = 0; t < basis.targets().size(); ++t) {
      const Target& target = basis.targets()[t];
      const at::Tensor g = policy.matrix(target).grad(), q = basis.q(t).plain().to(at::kDouble),
                       w = base.matrix(target);
      const at::Tensor inner = target.form == Form::kRight ? w.t().mm(g) : g.mm(w.t());
      parts.push_back(at::diag(q.t().mm(inner).mm(q)));
    }
    return flat(parts);
  }

 private:
  std::unique_ptr<ExpertTable> table_;
  Merged merged_;
};

constexpr Apply kForms[] = {Apply::kActivation, Apply::kMerged};

TEST(Families, GradientIsAutogradsInFloat64) {
  for (const char* name : kFamilyModels) {
    FamilySetting s(name, at::kDouble), single(name, at::kFloat), narrow(name, at::kBFloat16);
    const std::vector<double> truth = s.plain_gradient(s.arch()),
                              projected = s.projected_weight_gradient();
    for (const Apply form : kForms) {
      const double to_z = gap(s.gradient(form), truth),
                   to_weights = gap(s.gradient(form), projected),
                   in_single = gap(single.gradient(form), single.plain_gradient(s.arch())),
                   angle = cosine(narrow.gradient(form), narrow.plain_gradient(s.arch()));
      std::printf(
          "%-15s gradient: by z %.1e, by weights %.1e, float32 %.1e, bfloat16 cosine %.4f\n", name,
          to_z, to_weights, in_single, angle);
      EXPECT_LT(to_z, kGradientBound) << name;
      EXPECT_LT(to_weights, kGradientBound) << name;
      EXPECT_LT(in_single, 1e-4) << name;
      EXPECT_GT(angle, 0.99) << name;
    }
  }
}

// U diag(sigma z) V^T by LAPACK in float64, which knows no sides; or, as a control, the change by
// the directions of the smaller side where those of the larger one belong.
at::Tensor dense(const at::Tensor& w, const at::Tensor& z, const Target& target, bool wrong_side) {
  const auto [u, s, v] = at::linalg_svd(w, false);
  if (!wrong_side) return (u * (s * z)).mm(v);
  const bool right = target.form == Form::kRight;
  const at::Tensor side = right ? u : v.t();
  at::Tensor q = at::zeros({target.basis_rows(), target.length()}, at::kDouble);
  q.narrow(0, 0, side.size(0)).copy_(side);
  const at::Tensor c = (q * (z - 1)).mm(q.t());
  return w + (right ? w.mm(c) : c.mm(w));
}

// Central differences of the loss by that weight, along some of a matrix's z.
double gap_to_differences(FamilySetting& s, size_t t, const std::vector<float>& gradient,
                          bool wrong_side) {
  constexpr double kStep = 1e-4;
  const Target& target = s.basis.targets()[t];
  PlainDecoder base(s.weights), policy(s.weights);
  policy.adapt(s.basis, changes(s.basis, s.z));
  const at::Tensor z = changes(s.basis, s.z)[t] + 1;
  const auto loss = [&](int64_t i, double by) {
    at::Tensor moved = z.clone();
    moved[i] += by;
    policy.matrix(target) = dense(base.matrix(target), moved, target, wrong_side);
    return plain_loss(s.weights, policy, s.group, 1, KlLoss::kNone).item<double>();
  };
  std::vector<double> differences, own;
  for (const int64_t i : {0, 1, 7, 20, 31}) {
    differences.push_back((loss(i, kStep) - loss(i, -kStep)) / (2 * kStep));
    own.push_back(gradient[size_t(target.offset + i)]);
  }
  return gap(own, differences);
}

// Where heads x head_dim is below hidden, Q of q and o is on the larger side, and thin there.
TEST(ThinBases, GradientIsTheDifferenceOfDenseWeights) {
  FamilySetting s("gemma3_text", at::kDouble);
  int seen = 0;
  for (const Apply form : kForms) {
    const std::vector<float> gradient = s.gradient(form);
    for (size_t t = 0; t < s.basis.targets().size(); ++t) {
      const Target& target = s.basis.targets()[t];
      if (target.layer != 1 || target.basis_rows() == target.length()) continue;
      ++seen;
      const double right_side = gap_to_differences(s, t, gradient, false),
                   wrong_side = gap_to_differences(s, t, gradient, true);
      std::printf("%s %s: %.1e, of the wrong side %.1e\n", target.kind.c_str(),
                  form_name(target.form), right_side, wrong_side);
      EXPECT_LT(right_side, 1e-5) << target.name;
      EXPECT_GT(wrong_side, 100 * 1e-5) << "control: " << target.name;
    }
  }
  EXPECT_EQ(seen, 4);
}

// The same function decodes and trains: log pi of what was drawn, whoever shared the batch.
TEST(Families, DecodeIsTheTreeBitForBit) {
  for (const char* name : kFamilyModels)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      FamilySetting s(name, type);
      const Adapter adapter = s.adapter(Apply::kActivation);
      std::vector<std::vector<int>> prompts = {s.prompt, s.first};
      prompts[1].insert(prompts[1].begin(), s.prompt.begin(), s.prompt.begin() + 11);
      const int64_t room = s.arch().longest - 40;
      const int tokens = int(std::min<int64_t>(40, room));
      const auto drawn = replies(s.weights, adapter, prompts, 3, tokens, {.temperature = 1});
      const auto narrow = replies(s.weights, adapter, prompts, 3, tokens, {.temperature = 1}, 2);
      std::vector<ReplyGroup> groups(2);
      for (size_t p = 0; p < 2; ++p) {
        groups[p].prompt = &prompts[p];
        for (size_t r = 0; r < 3; ++r) groups[p].replies.push_back({&drawn[3 * p + r].tokens});
      }
      const ReplyLogProbs trained = reply_log_probs(s.weights, adapter, groups, 1);
      for (size_t p = 0; p < 2; ++p)
        for (size_t r = 0; r < 3; ++r) {
          EXPECT_EQ(drawn[3 * p + r].tokens, narrow[3 * p + r].tokens) << name;
          EXPECT_EQ(drawn[3 * p + r].log_probs, trained[p][r]) << name;
        }
    }
}

// --- each flag ----------------------------------------------------------------------------------

// A flag, and how to have a family without it.
struct Flag {
  const char* name;
  std::function<void(Architecture&)> off;  // none: see the comment beside it
};

const Flag kFlags[] = {
    {"norm behind", [](Architecture& a) { a.norm_place = NormPlace::kBefore; }},
    {"no norm before", [](Architecture& a) { a.norm_place = NormPlace::kAround; }},
    {"norm 1 + w", [](Architecture& a) { a.norm_adds_one = false; }},
    {"norm rounds once", nullptr},  // of bfloat16 alone: Norm.RoundsAsOftenAsItsFamily
    {"qk-norm per head", [](Architecture& a) { a.qk_norm = QkNorm::kNone; }},
    {"qk-norm whole", [](Architecture& a) { a.qk_norm = QkNorm::kNone; }},
    {"gelu_tanh", [](Architecture& a) { a.activation = Activation::kSilu; }},
    {"attention scale",
     [](Architecture& a) { a.attention_scale = 1 / std::sqrt(double(a.head_dim)); }},
    {"soft cap of scores", [](Architecture& a) { a.attention_cap = 0; }},
    {"soft cap of logits", [](Architecture& a) { a.logit_cap = 0; }},
    {"scaled rope", [](Architecture& a) { a.rope = RopeScaling(); }},
    {"local rope base",
     [](Architecture& a) {
       for (LayerTraits& layer : a.layer_traits) layer.local_angles = false;
     }},
    {"layers without rope",
     [](Architecture& a) {
       for (LayerTraits& layer : a.layer_traits) layer.rotary = true;
     }},
    {"partial rotary",
     [](Architecture& a) {
       a.rotary_dim = a.head_dim;
       a.rope.divisors.resize(size_t(a.head_dim / 2), 1);
     }},
    {"window",
     [](Architecture& a) {
       for (LayerTraits& layer : a.layer_traits) layer.window = 0;
     }},
    {"fused tensors", nullptr},  // without it there are no matrices: Fused.TensorsAreTheirSlices
    {"embedding scale", [](Architecture& a) { a.embedding_scale = 1; }},
    {"logit scale", [](Architecture& a) { a.logit_divisor = 1; }},
    {"residual scale", [](Architecture& a) { a.residual_scale = 1; }},
    {"biases", [](Architecture& a) { a.qkv_bias = a.output_bias = a.mlp_bias = false; }},
    {"tied head", [](Architecture& a) { a.tied_embeddings = false; }},
};

TEST(Flags, OfEveryFamilyTell) {
  std::printf("| flag | model | logits without it | gradient without it |\n|---|---|---|---|\n");
  std::set<std::string> seen;
  for (const char* name : kFamilyModels) {
    FamilySetting s(name, at::kDouble);
    const at::Tensor logits = logits_of(s.weights, {}, s.ids());
    const auto ours = flat({logits});
    const std::vector<float> gradient = s.gradient(Apply::kActivation);
    const auto flags = flags_of(s.arch());
    ASSERT_EQ(flags.size(), std::size(kFlags));
    for (size_t f = 0; f < flags.size(); ++f) {
      ASSERT_EQ(flags[f].first, kFlags[f].name);
      if (!flags[f].second) continue;
      seen.insert(flags[f].first);
      if (!kFlags[f].off) continue;
      Architecture without = s.arch();
      kFlags[f].off(without);
      const double apart = gap(ours, flat({PlainDecoder(s.weights, without).logits(s.ids())})),
                   gradient_apart = gap(gradient, s.plain_gradient(without));
      std::printf("| %s | %s | %.2g | %.2g |\n", kFlags[f].name, name, apart, gradient_apart);
      EXPECT_GT(apart, 100 * kLogitBound) << name << " without " << kFlags[f].name;
      EXPECT_GT(gradient_apart, 100 * kGradientBound) << name << " without " << kFlags[f].name;
    }
  }
  EXPECT_EQ(seen.size(), std::size(kFlags));  // every flag has a model
}

// --- folders ------------------------------------------------------------------------------------

// Transformers 5 saves the same model in other words: rope_parameters, dtype.
TEST(Folders, OfBothVersionsAreReadAlike) {
  const std::string folder = ::testing::TempDir() + "svfleet_family_5";
  for (const char* name : kFamilyModels) {
    const int64_t length = read_fixture(folder_of(name) + "/expected.json")["max_length"];
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    std::filesystem::copy(folder_of(name) + "/config_5.json", folder + "/config.json");
    const Architecture one = read_architecture(folder_of(name), length),
                       other = read_architecture(folder, length);
    EXPECT_EQ(one.content_hash(), other.content_hash()) << name;
    EXPECT_EQ(one.longest, other.longest) << name;
  }
  std::filesystem::remove_all(folder);
}

// A folder of its own, to change.
struct Copied {
  std::string folder = ::testing::TempDir() + "svfleet_family_copy";
  json config;

  explicit Copied(const std::string& name) {
    std::filesystem::remove_all(folder);
    std::filesystem::copy(folder_of(name), folder);
    config = read_fixture(folder + "/config.json");
  }
  ~Copied() { std::filesystem::remove_all(folder); }

  std::string error_with(const json& changes, int64_t max_length = 0) const {
    json changed = config;
    changed.merge_patch(changes);
    std::ofstream(folder + "/config.json") << changed;
    try {
      const Weights weights(folder, at::kFloat, at::kCPU, max_length);
      return "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
  }
};

TEST(Folders, WhatWouldChangeTheFunctionIsRefusedByName) {
  const auto refused = [](const char* name, const json& changes, const char* text) {
    EXPECT_THAT(Copied(name).error_with(changes), HasSubstr(text)) << name;
  };
  // A family's tensors that nothing reads, and those that are missing.
  refused("qwen3", {{"model_type", "llama"}}, "self_attn.k_norm.weight' is not part of");
  refused("llama", {{"model_type", "qwen3"}, {"head_dim", 8}}, "no tensor 'model.layers.0.self");
  refused("granite", {{"attention_bias", false}}, ".bias': a bias");
  refused("llama", {{"attention_bias", true}}, "no tensor 'model.layers.0.self_attn.q_proj.bias'");
  refused("phi3", {{"num_key_value_heads", 4}}, "qkv_proj.weight' has 64 rows");
  // Fields.
  refused("gemma3_text", {{"attn_logit_softcapping", 30}}, "attn_logit_softcapping 30");
  refused("gemma3_text", {{"use_bidirectional_attention", true}}, "use_bidirectional_attention");
  refused("gemma2", {{"hidden_activation", "silu"}}, "hidden_activation 'silu'");
  refused("qwen3", {{"residual_multiplier", 0.3}}, "residual_multiplier 0.3");
  refused("qwen3", {{"no_rope_layers", {1, 0}}}, "no_rope_layers");
  refused("qwen3", {{"layer_types", {"sliding_attention", "full_attention"}}}, "no window");
  refused("llama", {{"layer_types", {"sliding_attention", "full_attention"}}}, "layer_types");
  refused("smollm3", {{"no_rope_layers", {1}}}, "no_rope_layers has 1 entries");
  refused("qwen3", {{"num_experts", 8}}, "there is no router");
  refused("qwen3", {{"model_type", "qwen3_moe"}}, "needs a router");
  refused("llama", {{"rope_scaling", {{"rope_type", "yarn"}}}}, "of type yarn has no factor");
  refused("llama", {{"rope_scaling", {{"rope_type", "ntk"}, {"factor", 2}}}}, "of type 'ntk'");
  refused("phi3", {{"rope_scaling", {{"short_factor", {1.0}}}}}, "short_factor must be 2 numbers");
  refused("phi3", {{"partial_rotary_factor", 0.4}}, "partial_rotary_factor 0.4");
  refused("qwen3", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor 0.5");
}

// Chosen once, from model.max_length, and nothing longer is computed.
TEST(Folders, MaxLengthChoosesAngles) {
  const std::string phi = folder_of("phi3");
  const Architecture by_short = read_architecture(phi), by_long = read_architecture(phi, 64);
  EXPECT_EQ(by_short.longest, 32);  // what it was first trained on
  EXPECT_EQ(by_long.longest, 64);
  EXPECT_EQ(by_short.rope.divisors, (std::vector<double>{1.0, 1.1}));
  EXPECT_EQ(by_long.rope.divisors, (std::vector<double>{1.5, 6.0}));
  EXPECT_NE(by_short.content_hash(), by_long.content_hash());
  EXPECT_EQ(by_long.content_hash(), read_architecture(phi, 65).content_hash());
  EXPECT_THAT(Copied("phi3").error_with(json::object(), 300),
              HasSubstr("model.max_length asks for 300"));
  const std::string dynamic = folder_of("llama_dynamic");
  EXPECT_EQ(read_architecture(dynamic).longest, 32);
  EXPECT_EQ(read_architecture(dynamic, 72).longest, 72);
  EXPECT_NE(read_architecture(dynamic).content_hash(),
            read_architecture(dynamic, 72).content_hash());
}

// Slices under the names of matrices that stand alone, and a control of their order.
TEST(Fused, TensorsAreTheirSlices) {
  const FamilyModel model("phi3", at::kFloat);
  const Architecture& arch = model.arch();
  const SafetensorsFolder& files = model.weights.files();
  const auto whole = [&](const std::string& name) {
    return read_weight(files, name, files.at(name).shape, at::kFloat);
  };
  const at::Tensor qkv = whole("model.layers.1.self_attn.qkv_proj.weight"),
                   gate_up = whole("model.layers.1.mlp.gate_up_proj.weight");
  const int64_t q = arch.heads * arch.head_dim, kv = arch.kv_heads * arch.head_dim,
                inner = arch.intermediate;
  const at::Tensor slices[] = {qkv.narrow(0, 0, q),         qkv.narrow(0, q, kv),
                               qkv.narrow(0, q + kv, kv),   whole(weight_name(1, "o_proj")),
                               gate_up.narrow(0, 0, inner), gate_up.narrow(0, inner, inner)};
  for (int j = 0; j < 6; ++j)
    EXPECT_TRUE(at::equal(model.weights.layer(1).linears[j].weight.plain(), slices[j])) << j;
  EXPECT_FALSE(at::equal(slices[1], slices[2]));
  EXPECT_TRUE(model.weights.tensor_hashes().contains("model.layers.1.self_attn.q_proj.weight"));
}

// --- pages --------------------------------------------------------------------------------------

std::string text_of(const std::string& file) {
  std::ifstream in(source_folder() + "/" + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The table of docs/models.md and the list in README.md are this program's own.
TEST(Pages, ListTheFamiliesOfTheTable) {
  std::string table = "| `model_type` | models | beside what Llama has |\n|---|---|---|\n", list;
  for (const Family& family : families()) {
    std::string flags;
    std::set<std::string> of_family;
    for (const char* name : kFamilyModels) {
      const int64_t length = read_fixture(folder_of(name) + "/expected.json")["max_length"];
      const Architecture arch = read_architecture(folder_of(name), length);
      if (arch.model_type != family.model_type) continue;
      for (const auto& [flag, has] : flags_of(arch))
        if (has) of_family.insert(flag);
    }
    for (const Flag& flag : kFlags)
      if (of_family.contains(flag.name))
        flags += (flags.empty() ? "" : ", ") + std::string(flag.name);
    if (family.qkv_bias == QkvBias::kAlways) flags = "biases";
    table +=
        "| `" + std::string(family.model_type) + "` | " + family.models + " | " + flags + " |\n";
    list += (list.empty() ? "" : "; ") + std::string(family.models);
  }
  EXPECT_THAT(text_of("docs/models.md"), HasSubstr(table)) << table;
  std::string readme = text_of("README.md");
  std::replace(readme.begin(), readme.end(), '\n', ' ');
  EXPECT_THAT(readme, HasSubstr(list)) << list;
}

}  // namespace
}  // namespace svfleet
