// What a good configuration becomes; every setting is read, printed and, where marked, part of what
// may alter bits.
#include "coordinator/config/config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/config/fields.h"
#include "tests/coordinator/config/files.h"

namespace svfleet {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSmall[] = R"(model: {path: m}
run_dir: r
task: {train: t.jsonl, reward: last_number}
)";

class ConfigTest : public ConfigFiles {};

TEST_F(ConfigTest, ReadsEverySection) {
  write_text("run.yaml", R"yaml(
model: {path: models/m, dtype: float32, chat_template: smollm2, max_length: 8192}
run_dir: runs/a
svd:
  targets: [q_proj, v_proj]
  layers: 0..11,40..79
train:
  steps: 5
  learning_rate: 2e-3
  token_reduction: mean
  token_reduction_length: 64
evaluate: {top_p: .5}
workers: 3
task:
  name: sums
  train: data/train.jsonl
  prompt: "{{a}} {question}\n"
  system: ""
  few_shot: {file: few.jsonl, count: 2, answer: "It is {answer}."}
  rewards:
    - {kind: regex, pattern: "([0-9]+)", weight: 2}
    - exact
  stop: ["\n\n", "Q:"]
  chat: false
  truncated: mask
)yaml");
  const Config c = load_config("run.yaml", {});
  EXPECT_EQ(c.model.path, "models/m");
  EXPECT_EQ(c.model.dtype, "float32");
  EXPECT_EQ(c.model.chat_template, "smollm2");
  EXPECT_EQ(c.model.max_length, 8192);
  EXPECT_EQ(c.run_dir, "runs/a");
  EXPECT_THAT(c.svd.targets, ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(c.svd.layers, "0..11,40..79");
  EXPECT_EQ(c.svd.storage, "float32");
  EXPECT_EQ(c.train.steps, 5);
  EXPECT_EQ(c.train.learning_rate, 0.002);
  EXPECT_EQ(c.train.samples_per_prompt, 4);
  EXPECT_EQ(c.evaluate.top_p, 0.5);
  EXPECT_EQ(c.workers, 3);
  EXPECT_EQ(c.file, "run.yaml");
  ASSERT_EQ(c.tasks.size(), 1u);
  const TaskSpec& t = c.tasks[0];
  EXPECT_EQ(t.name, "sums");
  EXPECT_EQ(t.train, "data/train.jsonl");  // written inline: relative to the working directory
  EXPECT_EQ(t.prompt, "{{a}} {question}\n");
  EXPECT_TRUE(t.has_system);
  EXPECT_EQ(t.system, "");
  EXPECT_EQ(t.few_shot, "few.jsonl");
  EXPECT_EQ(t.few_shot_count, 2);
  EXPECT_EQ(t.few_shot_answer, "It is {answer}.");
  ASSERT_EQ(t.rewards.size(), 2u);
  EXPECT_EQ(t.rewards[0].kind, RewardKind::kRegex);
  EXPECT_EQ(t.rewards[0].pattern, "([0-9]+)");
  EXPECT_EQ(t.rewards[0].weight, 2);
  EXPECT_EQ(t.rewards[1].kind, RewardKind::kExact);
  EXPECT_THAT(t.stop, ElementsAre("\n\n", "Q:"));
  EXPECT_FALSE(t.chat);
  EXPECT_EQ(t.truncated, TruncatedRule::kMask);
}

TEST_F(ConfigTest, DefaultsAreThoseOfTheStruct) {
  write_text("run.yaml", kSmall);
  const Config c = load_config("run.yaml", {});
  EXPECT_EQ(c.train.steps, TrainConfig().steps);
  EXPECT_EQ(c.evaluate.batch, EvaluateConfig().batch);
  EXPECT_FALSE(c.tasks[0].has_system);
  EXPECT_EQ(c.tasks[0].name, "task");
  EXPECT_EQ(c.tasks[0].prompt, "{question}");
}

TEST_F(ConfigTest, AChatFormatIsReadPieceByPiece) {
  const std::string format = R"yaml(model:
  path: m
  chat_format:
    begin: "<s>"
    system: "<|system|>\n{content}\n"
    user: "<|user|>\n{content}\n"
    assistant: "<|assistant|>\n{content}</s>\n"
    answer: "<|assistant|>\n"
    default_system: "Be brief."
run_dir: r
task: {train: t.jsonl, reward: last_number}
)yaml";
  write_text("run.yaml", format);
  const Config c = load_config("run.yaml", {"model.chat_format.begin=<bos>"});
  const ChatFormat& f = c.model.chat_format;
  EXPECT_EQ(f.begin, "<bos>");
  EXPECT_EQ(f.system, "<|system|>\n{content}\n");
  EXPECT_EQ(f.user, "<|user|>\n{content}\n");
  EXPECT_EQ(f.assistant, "<|assistant|>\n{content}</s>\n");
  EXPECT_EQ(f.answer, "<|assistant|>\n");
  EXPECT_EQ(f.default_system, "Be brief.");
  // Printed, and read again.
  write_text("printed.yaml", print_config(c));
  EXPECT_EQ(load_config("printed.yaml", {}).model.chat_format, f);
  // A run from before the setting keeps its hash; each piece is in that of a run that has it.
  write_text("small.yaml", kSmall);
  EXPECT_EQ(bits_config(load_config("small.yaml", {})).find("chat_format"), std::string::npos);
  EXPECT_NE(bits_config(c).find("model.chat_format.default_system"), std::string::npos);

  const auto refused = [&](const std::vector<std::string>& overrides) -> std::string {
    try {
      load_config("run.yaml", overrides);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refused({}), "accepted");
  EXPECT_THAT(refused({"model.chat_template=chatml"}), HasSubstr("exclude each other"));
  EXPECT_THAT(
      refused({"model.chat_format.user=U"}),
      HasSubstr("--set model.chat_format.user=U: model.chat_format.user must hold {content}"));
  EXPECT_THAT(refused({"model.chat_format.system="}), HasSubstr("default_system needs"));
  EXPECT_THAT(refused({"model.chat_format=x"}), HasSubstr("is a section"));
  EXPECT_THAT(refused({"model.chat_format.usr=x"}), HasSubstr("model.chat_format.user"));
}

TEST_F(ConfigTest, PathsInATaskFileAreRelativeToIt) {
  write_text("tasks/max3.yaml", R"(
train: ../data/train.jsonl
test: /abs/test.jsonl
few_shot: {file: few.jsonl, count: 1}
reward: last_number
)");
  write_text("run.yaml", "model: {path: m}\nrun_dir: r\ntask: tasks/max3.yaml\n");
  const Config c = load_config("run.yaml", {});
  EXPECT_EQ(c.tasks[0].name, "max3");
  EXPECT_EQ(c.tasks[0].train, "data/train.jsonl");
  EXPECT_EQ(c.tasks[0].test, "/abs/test.jsonl");
  EXPECT_EQ(c.tasks[0].few_shot, "tasks/few.jsonl");
  EXPECT_EQ(c.tasks[0].validation, "");
  // Given on the command line, it is relative to the working directory.
  EXPECT_EQ(load_config("run.yaml", {"task.train=x.jsonl"}).tasks[0].train, "x.jsonl");
}

TEST_F(ConfigTest, SeveralTasks) {
  write_text("tasks/a.yaml", "train: a.jsonl\nreward: exact\nweight: 3\n");
  write_text("run.yaml", R"(model: {path: m}
run_dir: r
task:
  - tasks/a.yaml
  - {file: tasks/a.yaml, name: again, weight: 0.5, max_new_tokens: 7}
  - {train: c.jsonl, reward: last_number}
)");
  Config c = load_config("run.yaml", {});
  ASSERT_EQ(c.tasks.size(), 3u);
  EXPECT_EQ(c.tasks[0].weight, 3);
  EXPECT_EQ(c.tasks[1].name, "again");
  EXPECT_EQ(c.tasks[1].weight, 0.5);
  EXPECT_EQ(c.tasks[1].max_new_tokens, 7);
  EXPECT_EQ(c.tasks[1].train, "tasks/a.jsonl");
  EXPECT_EQ(c.tasks[2].name, "task2");
  c = load_config("run.yaml", {"task.1.weight=9", "task.2.reward=random"});
  EXPECT_EQ(c.tasks[1].weight, 9);
  EXPECT_EQ(c.tasks[2].rewards[0].kind, RewardKind::kRandom);
  EXPECT_EQ(print_config(c), [&] {
    write_text("printed.yaml", print_config(c));
    return print_config(load_config("printed.yaml", {}));
  }());
}

TEST_F(ConfigTest, OverridesTakeRawText) {
  write_text("run.yaml", kSmall);
  const Config c = load_config(
      "run.yaml", {"train.steps=7", "train.steps=9", "svd.targets=q_proj,v_proj",
                   "task.prompt={question}: is it? # yes", "run_dir=a=b", "task.stop=[\"a,b\"]",
                   "model.chat_template=", "task.rewards=[{kind: exact}, last_number]"});
  EXPECT_EQ(c.train.steps, 9);
  EXPECT_THAT(c.svd.targets, ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(c.tasks[0].prompt, "{question}: is it? # yes");
  EXPECT_EQ(c.run_dir, "a=b");
  EXPECT_THAT(c.tasks[0].stop, ElementsAre("a,b"));
  EXPECT_EQ(c.model.chat_template, "");
  EXPECT_EQ(c.tasks[0].rewards.size(), 2u);
  // A task may come from the command line alone.
  write_text("bare.yaml", "model: {path: m}\nrun_dir: r\n");
  write_text("t.yaml", "train: x\nreward: exact\n");
  EXPECT_EQ(load_config("bare.yaml", {"task=t.yaml", "task.weight=2"}).tasks[0].weight, 2);
}

// Another valid value for a setting, as the text of an override; and what must be set with it.
struct Change {
  std::string value;
  std::vector<std::string> also = {};
  bool also_before = true;
};
template <class S>
Change change_of(const Field<S>& field, S& owner, const std::string& prefix) {
  const std::string key = prefix + field.key;
  if (key == "train.baseline") return {"none"};
  if (key == "train.token_reduction") return {"mean", {"train.token_reduction_length=3"}, false};
  if (key == "train.token_reduction_length")
    return {"4", {"train.token_reduction=mean", "train.token_reduction_length=3"}};
  if (key == "train.kl_form") return {"k2", {"train.kl_beta=1"}};
  if (key == "train.texts") return {"right_replies", {"train.method=next_token"}};
  if (key == "train.population" || key == "train.perturbation")
    return {key == "train.population" ? "34" : "0.25",
            {"train.method=es", "train.form=activation"}};
  if (key == "svd.components") return {"top 4"};
  if (key == "train.core") return {"block"};
  if (key.starts_with("train.core_r") || key.starts_with("train.core_a"))
    return {"8", {"train.core=lora"}};
  if (key.starts_with("train.core_")) return {"8", {"train.core=tiny", "svd.components=top 2"}};
  if (key == "evaluate.samples") return {"2", {"evaluate.temperature=1"}};
  if (key == "train.early_stop_after")
    return {"2", {"train.validate_every=1", "task.validation=v"}};
  if (key == "train.validate_every") return {"1", {"task.validation=v"}};
  if (key == "train.prompts_per_step") return {"4"};
  if (key == "train.prompts_per_chunk") return {"4"};
  if (key == "train.rows_per_worker") return {"256"};
  if (key == "svd.layers") return {"0..3"};
  if (key == "task") return {"other.yaml"};
  if (key == "task.few_shot.file") return {"f"};
  if (key.rfind("task.few_shot.", 0) == 0)
    return {"3",
            {"task.few_shot.file=f",
             key == "task.few_shot.count" ? "task.weight=1" : "task.few_shot.count=2"}};
  if (key == "task.rewards") return {"exact"};
  if (key.starts_with("model.chat_format.")) {
    const bool is_text =
        key.ends_with("begin") || key.ends_with("answer") || key.ends_with("default_system");
    return {is_text ? "other #\t\"" : "other #\t\"{content}",
            {"model.chat_format.user={content}", "model.chat_format.assistant={content}",
             "model.chat_format.system={content}"}};
  }
  const Ref ref = field.ref(owner);
  const auto& names = field.limits.names;
  if (auto* text = std::get_if<std::string*>(&ref)) {
    if (key == "task.name") return {"other: 'text' #\"\\ \xC3\xA9"};  // one line, or refused
    if (names.empty()) return {"other: 'text' #\t\"\\ \xC3\xA9\xE2\x80\xA8"};
    return {**text == names[0] ? names[1] : names[0]};
  }
  if (std::holds_alternative<OptionalText>(ref)) return {"null"};  // the word, not nothing
  if (auto* value = std::get_if<int64_t*>(&ref)) return {std::to_string(**value + 1)};
  if (auto* value = std::get_if<int*>(&ref)) return {std::to_string(**value + 1)};
  if (auto* value = std::get_if<double*>(&ref)) return {**value == 0.25 ? "0.125" : "0.25"};
  if (auto* value = std::get_if<bool*>(&ref)) return {**value ? "false" : "true"};
  if (std::holds_alternative<std::vector<std::string>*>(ref))
    return {names.empty() ? "[\"a, [b]\", \"\\n\"]" : "all"};
  return {"score"};  // truncated
}

template <class S>
void check_change(const Field<S>& field, S& defaults, const std::string& prefix) {
  const std::string key = prefix + field.key;
  SCOPED_TRACE(key);
  const Change change = change_of(field, defaults, prefix);
  const Config before =
      load_config("run.yaml", change.also_before ? change.also : std::vector<std::string>());
  std::vector<std::string> overrides = change.also;
  overrides.push_back(key + "=" + change.value);
  const Config after = load_config("run.yaml", overrides);
  EXPECT_NE(print_config(before), print_config(after));
  write_text("printed.yaml", print_config(after));
  const Config again = load_config("printed.yaml", {});
  EXPECT_EQ(print_config(again), print_config(after));
  EXPECT_EQ(bits_config(again), bits_config(after));
  const bool altered = bits_config(before) != bits_config(after);
  // The change is one from the default.
  EXPECT_EQ(altered, field.bits == Bits::kYes || field.bits == Bits::kUnlessDefault)
      << bits_config(after);
  EXPECT_TRUE(json::accept(bits_config(after)));
  EXPECT_EQ(json::parse(bits_config(after)).dump().size() > 2, true);
}

TEST_F(ConfigTest, EveryFieldCanBeSetIsPrintedReadBackAndCountedAmongTheBits) {
  write_text("run.yaml", kSmall);
  write_text("other.yaml", "train: t\nreward: exact\nprompt: \"{q}\"\n");
  Config defaults = load_config("run.yaml", {});
  for (const auto& field : config_fields())
    if (field.bits != Bits::kFormer && field.key != "experts") check_change(field, defaults, "");
  for (const auto& field : task_fields()) check_change(field, defaults.tasks[0], "task.");
}

constexpr char kExperts[] = R"(model: {path: m}
run_dir: r
task: {name: both, train: t.jsonl, reward: last_number}
experts:
  - {name: a, train: {seed: 1}}
  - {name: b, task: {train: u.jsonl, reward: exact}, train: {steps: 7, form: activation}}
train: {form: activation, learning_rate: 0.1}
)";

TEST_F(ConfigTest, ExpertsAreReadOverTheRunsOwnSettings) {
  write_text("run.yaml", kExperts);
  const Config c = load_config("run.yaml", {"train.steps=9", "experts.b.train.seed=5",
                                            "experts.0.task.weight=2", "experts.a.task.name=mine"});
  EXPECT_THAT(expert_names(c), ElementsAre("a", "b"));
  const std::vector<Config> runs = runs_of_one(c);
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].train.steps, 9);  // an override of what they share
  EXPECT_EQ(runs[1].train.steps, 7);
  EXPECT_EQ(runs[0].train.seed, 1);
  EXPECT_EQ(runs[1].train.seed, 5);
  EXPECT_EQ(runs[1].train.learning_rate, 0.1);
  EXPECT_EQ(runs[0].tasks[0].name, "mine");
  EXPECT_EQ(runs[0].tasks[0].weight, 2);
  EXPECT_EQ(runs[1].tasks[0].train, "u.jsonl");
  EXPECT_EQ(c.tasks.size(), 2u);  // all of them
  write_text("printed.yaml", print_config(c));
  const Config again = load_config("printed.yaml", {});
  EXPECT_EQ(print_config(again), print_config(c));
  for (size_t e = 0; e < 2; ++e)
    EXPECT_EQ(bits_config(runs_of_one(again)[e]), bits_config(runs[e]));
  // The same as a run of its own.
  write_text("own.yaml", R"(model: {path: m}
run_dir: r
task: {train: u.jsonl, reward: exact}
train: {form: activation, learning_rate: 0.1, steps: 7, seed: 5}
)");
  EXPECT_EQ(bits_config(runs[1]), bits_config(load_config("own.yaml", {})));
  EXPECT_EQ(print_config(runs[1]), print_config(load_config("own.yaml", {})));
}

TEST_F(ConfigTest, AListOfOneExpertIsItsOwnRun) {
  write_text("run.yaml",
             "model: {path: m}\nrun_dir: r\nexperts: [{name: a, task: {train: t.jsonl, "
             "reward: exact}, train: {seed: 3}}]\n");
  const Config c = load_config("run.yaml", {});
  EXPECT_TRUE(c.experts.empty());
  EXPECT_EQ(c.train.seed, 3);
  EXPECT_EQ(c.train.form, "merged");
  EXPECT_EQ(c.tasks.size(), 1u);
  EXPECT_THAT(expert_names(c), ElementsAre(""));
}

// Two settings of earlier versions that are one now.
TEST_F(ConfigTest, FormerFormsAreReadAndUnequalOnesAreNoted) {
  write_text("run.yaml", kSmall);
  const auto with = [](const std::vector<std::string>& overrides) {
    return load_config("run.yaml", overrides);
  };
  const std::string sampling = "train.sampling_form=", gradient = "train.gradient_form=";
  EXPECT_EQ(with({}).train.form, "merged");
  EXPECT_TRUE(with({}).notes.empty());
  const Config alike = with({sampling + "activation", gradient + "activation"});
  EXPECT_EQ(alike.train.form, "activation");
  EXPECT_TRUE(alike.notes.empty());
  EXPECT_EQ(print_config(alike).find("sampling_form"), std::string::npos);
  EXPECT_EQ(bits_config(alike), bits_config(with({"train.form=activation"})));
  // As every run of earlier versions had them.
  const Config unequal = with({sampling + "merged", gradient + "activation"});
  EXPECT_EQ(unequal.train.form, "merged");
  ASSERT_EQ(unequal.notes.size(), 1u);
  EXPECT_NE(unequal.notes[0].find("one setting now, train.form, which is merged"),
            std::string::npos);
  EXPECT_EQ(with({gradient + "activation"}).train.form, "merged");
  const Config chosen = with({sampling + "merged", "train.form=activation"});
  EXPECT_EQ(chosen.train.form, "activation");
  EXPECT_EQ(chosen.notes.size(), 1u);
  EXPECT_THROW(with({sampling + "other"}), Error);
}

TEST_F(ConfigTest, EveryRewardFieldIsPrintedReadBackAndCountedAmongTheBits) {
  const std::string start = "model: {path: m}\nrun_dir: r\ntask: {train: t, rewards: [{";
  const auto load = [&](const std::string& reward) {
    write_text("run.yaml", start + reward + "}]}\n");
    return load_config("run.yaml", {});
  };
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"kind: exact", "kind: last_number"},
      {"kind: exact", "kind: exact, weight: 2"},
      {"kind: regex, pattern: a", "kind: regex, pattern: \"\\\\d \\\"x\\\" é {}\""},
      {"kind: regex, pattern: a", "kind: regex, pattern: a, match_only: true"},
      {"kind: exact", "kind: exact, ignore_case: false"},
      {"kind: last_number", "kind: last_number, tolerance: 0.5"},
      {"kind: random", "kind: random, seed: 5"}};
  EXPECT_EQ(pairs.size(), reward_fields().size());
  for (const auto& [before, after] : pairs) {
    SCOPED_TRACE(after);
    EXPECT_NE(bits_config(load(before)), bits_config(load(after)));
    const Config c = load(after);
    write_text("printed.yaml", print_config(c));
    EXPECT_EQ(print_config(load_config("printed.yaml", {})), print_config(c));
    EXPECT_EQ(bits_config(load_config("printed.yaml", {})), bits_config(c));
  }
}

// Names of the fields that a struct declares, from the text of its header.
std::vector<std::string> declared_fields(const std::string& header, const std::string& name) {
  const std::string text = read_text(std::string(SVFLEET_SOURCE_DIR) + "/" + header);
  const size_t begin = text.find("struct " + name + " {");
  EXPECT_NE(begin, std::string::npos) << name;
  const std::string body = text.substr(begin, text.find("\n};", begin) - begin);
  std::vector<std::string> fields;
  // A name is the last word before a comma, an equals sign or a semicolon, outside of comments,
  // quotes, brackets and initial values.
  std::string word;
  bool in_comment = false, in_quotes = false, in_value = false;
  int depth = 0;
  for (size_t i = body.find('{') + 1; i < body.size(); ++i) {
    const char c = body[i];
    if (in_comment) {
      in_comment = c != '\n';
    } else if (c == '"') {
      in_quotes = !in_quotes;
    } else if (in_quotes) {
      continue;
    } else if (c == '/' && body[i + 1] == '/') {
      in_comment = true;
    } else if (c == '<' || c == '{') {
      ++depth;
    } else if (c == '>' || c == '}') {
      --depth;
    } else if (depth == 0 && (c == ',' || c == '=' || c == ';')) {
      if (!in_value) fields.push_back(word);
      in_value = c == '=';
    } else if (depth == 0 && !in_value &&
               (std::isalnum(static_cast<unsigned char>(c)) || c == '_')) {
      const bool goes_on =
          std::isalnum(static_cast<unsigned char>(body[i - 1])) || body[i - 1] == '_';
      word = goes_on ? word + c : std::string(1, c);
    }
  }
  return fields;
}

template <class S>
bool in_table(const std::vector<Field<S>>& fields, const std::string& key) {
  for (const auto& field : fields)
    if (field.key == key) return true;
  return false;
}

TEST(ConfigTable, HoldsEveryFieldOfEveryStruct) {
  size_t count = 0;
  for (const auto& [name, section] : {std::pair<std::string, std::string>{"ModelConfig", "model."},
                                      {"SvdConfig", "svd."},
                                      {"TrainConfig", "train."},
                                      {"EvaluateConfig", "evaluate."}}) {
    for (const auto& field : declared_fields("coordinator/config/config.h", name)) {
      if (field == "chat_format") continue;  // a section, below
      EXPECT_TRUE(in_table(config_fields(), section + field)) << section << field;
      ++count;
    }
  }
  for (const auto& field : declared_fields("worker/tokenizer/chat_format.h", "ChatFormat")) {
    if (field == "operator") continue;
    EXPECT_TRUE(in_table(config_fields(), "model.chat_format." + field)) << field;
    ++count;
  }
  for (const auto& field : declared_fields("coordinator/config/config.h", "Config")) {
    if (field == "file" || field == "model" || field == "svd" || field == "train" ||
        field == "evaluate" || field == "former" || field == "notes")
      continue;
    EXPECT_TRUE(in_table(config_fields(), field == "tasks" ? "task" : field)) << field;
    ++count;
  }
  for (const auto& field : declared_fields("coordinator/config/config.h", "FormerSettings")) {
    EXPECT_TRUE(in_table(config_fields(), "train." + field)) << field;
    ++count;
  }
  EXPECT_EQ(count, config_fields().size());
  EXPECT_GT(count, 50u);  // the header was really read
  count = 0;
  for (const auto& field : declared_fields("rl/task.h", "TaskSpec")) {
    if (field == "has_system" || field == "file" || field == "prompt_place") continue;
    std::string key = field;
    if (key == "few_shot") key = "few_shot.file";
    if (key == "few_shot_count") key = "few_shot.count";
    if (key == "few_shot_answer") key = "few_shot.answer";
    EXPECT_TRUE(in_table(task_fields(), key)) << key;
    ++count;
  }
  EXPECT_EQ(count, task_fields().size());
  count = 0;
  for (const auto& field : declared_fields("rl/reward.h", "RewardSpec")) {
    EXPECT_TRUE(in_table(reward_fields(), field)) << field;
    ++count;
  }
  EXPECT_EQ(count, reward_fields().size());
}

TEST_F(ConfigTest, TruthValuesAsYamlSpellsThem) {
  write_text("run.yaml", kSmall);
  for (const char* yes : {"true", "True", "TRUE"})
    EXPECT_TRUE(load_config("run.yaml", {std::string("task.chat=") + yes}).tasks[0].chat);
  for (const char* no : {"false", "False", "FALSE"})
    EXPECT_FALSE(load_config("run.yaml", {std::string("task.chat=") + no}).tasks[0].chat);
  EXPECT_THROW(load_config("run.yaml", {"task.chat=yes"}), Error);
}

TEST_F(ConfigTest, OneSettingOfOneReward) {
  write_text("run.yaml", kSmall);
  const Config config = load_config("run.yaml", {"task.rewards.0.weight=9"});
  EXPECT_EQ(config.tasks[0].rewards[0].weight, 9);
  EXPECT_NE(bits_config(config), bits_config(load_config("run.yaml", {})));
}

TEST_F(ConfigTest, StepsMatterOnlyWhereTheScheduleLooksAtTheEnd) {
  write_text("run.yaml", kSmall);
  const auto bits = [](std::vector<std::string> overrides) {
    return bits_config(load_config("run.yaml", overrides));
  };
  EXPECT_EQ(bits({"train.steps=5"}), bits({"train.steps=6"}));
  EXPECT_NE(bits({"train.schedule=cosine", "train.steps=5"}),
            bits({"train.schedule=cosine", "train.steps=6"}));
}

TEST_F(ConfigTest, BitsAreCanonical) {
  write_text("run.yaml", kSmall);
  const std::string bits = bits_config(load_config("run.yaml", {"train.learning_rate=5e-3"}));
  EXPECT_EQ(bits, bits_config(load_config("run.yaml", {"train.learning_rate=0.0050"})));
  EXPECT_THAT(bits, HasSubstr("\"train.learning_rate\":0.005,"));
  EXPECT_THAT(bits, HasSubstr("\"train.epsilon\":1e-08,"));
  EXPECT_THAT(bits, HasSubstr("\"task.0.rewards\":[{"));
  // Sorted keys: what a JSON library that sorts prints in the same order.
  std::vector<std::string> keys, sorted;
  const auto parsed = nlohmann::ordered_json::parse(bits);
  for (const auto& [key, value] : parsed.items()) keys.push_back(key);
  sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(keys, sorted);
  for (const char* absent : {"run_dir", "model.path", "workers", "timeout_s", "evaluate.seed",
                             "train.steps", "svd.store", "task.0.train"})
    EXPECT_FALSE(parsed.contains(absent)) << absent;
  for (const char* present : {"threads", "model.dtype", "svd.layers", "train.seed",
                              "task.0.max_new_tokens", "task.0.system"})
    EXPECT_TRUE(parsed.contains(present)) << present;
}

TEST(Numbers, AreShortAndExact) {
  EXPECT_EQ(number_text(0.005), "0.005");
  EXPECT_EQ(number_text(1000000), "1000000");
  EXPECT_EQ(number_text(1e-8), "1e-08");
  EXPECT_EQ(number_text(-1), "-1");
  EXPECT_EQ(number_text(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(number_text(1e300), "1e+300");
}

TEST(Reference, IsThePageInDocs) {
  EXPECT_EQ(config_reference(), read_text(std::string(SVFLEET_SOURCE_DIR) + "/docs/config.md"))
      << "write it anew with svfleet config --reference > docs/config.md";
}

TEST(Quickstart, IsValid) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(SVFLEET_SOURCE_DIR);
  const Config c = load_config("examples/quickstart.yaml", {});
  std::filesystem::current_path(before);
  EXPECT_EQ(c.train.steps, 48);
  EXPECT_EQ(c.train.prompts_per_step * c.train.samples_per_prompt, 32);
  EXPECT_EQ(c.evaluate.items, 1000);
  EXPECT_EQ(c.tasks.at(0).name, "max3");
  EXPECT_TRUE(std::filesystem::path(c.tasks[0].train).is_relative());
}

TEST(Examples, AreAllValid) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(SVFLEET_SOURCE_DIR);
  EXPECT_NO_THROW(load_config("examples/tiny.yaml", {}));
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("examples/tasks")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path());
    EXPECT_NO_THROW(load_config("examples/quickstart.yaml", {"task=" + entry.path().string()}));
    ++count;
  }
  std::filesystem::current_path(before);
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace svfleet
