// Wrong configurations: each gives exactly one line, that names the right place.
#include <gmock/gmock.h>

#include "comm/error.h"
#include "coordinator/config/config.h"
#include "tests/coordinator/config/files.h"

namespace svfleet {
namespace {

class ConfigErrors : public ConfigFiles {
 protected:
  static std::string error_of(const std::string& file,
                              const std::vector<std::string>& overrides = {}) {
    try {
      load_config(file, overrides);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), kExitUser);
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
      return e.what();
    } catch (const std::exception& e) {
      ADD_FAILURE() << "another type of exception: " << e.what();
    }
    return "no error";
  }
  static void expect_error(const std::string& yaml, const std::string& expected,
                           const std::vector<std::string>& overrides = {}) {
    write_text("run.yaml", yaml);
    EXPECT_EQ(error_of("run.yaml", overrides), expected) << yaml;
  }
  // After a head of three good lines.
  static void expect_error_after_head(const std::string& rest, const std::string& expected,
                                      const std::vector<std::string>& overrides = {}) {
    expect_error("model: {path: m}\nrun_dir: r\ntask: {train: t, reward: exact}\n" + rest, expected,
                 overrides);
  }
};

TEST_F(ConfigErrors, ControlTheHeadIsRight) {
  expect_error_after_head("", "no error");
  expect_error_after_head("train:\n  steps: 5\n", "no error", {"train.steps=6"});
}

TEST_F(ConfigErrors, UnknownKeys) {
  expect_error_after_head("train:\n  steps: 5\n  lerning_rate: 1\n",
                          "run.yaml:6: unknown key 'lerning_rate', did you mean 'learning_rate'?");
  expect_error_after_head("trian: {}\n", "run.yaml:4: unknown key 'trian', did you mean 'train'?");
  expect_error_after_head("\n# a comment\nsteps: 3\n",
                          "run.yaml:6: unknown key 'steps', did you mean 'train.steps'?");
  expect_error_after_head("model2: x\n", "run.yaml:4: unknown key 'model2', did you mean 'model'?");
  expect_error_after_head("svd:\n  color: red\n",
                          "run.yaml:5: unknown key 'color' under svd; known: store, targets, "
                          "layers, components, storage, tolerance");
  expect_error_after_head(
      "train: {top_k: 5}\n",
      "run.yaml:4: unknown key 'top_k': training samples are untruncated, so that their "
      "probabilities are those of the policy; top_k exists only under evaluate");
  expect_error_after_head("evaluate:\n  learning_rate: 1\n",
                          "run.yaml:5: unknown key 'learning_rate', did you mean "
                          "'train.learning_rate'?");
  expect_error_after_head(
      "<<: {}\n",
      "run.yaml:4: unknown key '<<': YAML's merge key is not supported; write the "
      "settings out");
  expect_error_after_head(
      "color: {}\n",
      "run.yaml:4: unknown key 'color'; known: model, run_dir, svd, task, train, "
      "experts, evaluate, workers, threads, timeout_s");
  expect_error("model: {path: m}\nrun_dir: r\ntask:\n  train: t\n  reward: exact\n  promt: x\n",
               "run.yaml:6: unknown key 'promt', did you mean 'prompt'?");
  expect_error(
      "model: {path: m}\nrun_dir: r\ntask:\n  train: t\n  rewards:\n    - kind: exact\n"
      "      wieght: 2\n",
      "run.yaml:7: unknown key 'wieght', did you mean 'weight'?");
  expect_error("model: {path: m}\nrun_dir: r\ntask:\n  few_shot:\n    files: x\n",
               "run.yaml:5: unknown key 'files', did you mean 'file'?");
}

TEST_F(ConfigErrors, WrongTypes) {
  expect_error_after_head("train:\n  seed: 1\n\n  steps: many\n",
                          "run.yaml:7: train.steps must be a whole number, got 'many'");
  expect_error_after_head("train: {steps: 1.5}\n",
                          "run.yaml:4: train.steps must be a whole number, got '1.5'");
  expect_error_after_head("train: {steps: [1]}\n",
                          "run.yaml:4: train.steps must be a whole number, got a list");
  expect_error_after_head("train:\n  steps:\n  seed: 0\n",
                          "run.yaml:5: train.steps must be a whole number, got nothing");
  expect_error_after_head("train:\nworkers: 1\n",
                          "run.yaml:4: train must be a mapping of keys and values, got nothing");
  expect_error_after_head("train: {learning_rate: fast}\n",
                          "run.yaml:4: train.learning_rate must be a number, got 'fast'");
  expect_error_after_head("train: {learning_rate: .nan}\n",
                          "run.yaml:4: train.learning_rate must be a number, got '.nan'");
  expect_error_after_head("train: {learning_rate: inf}\n",
                          "run.yaml:4: train.learning_rate must be a number, got 'inf'");
  expect_error_after_head("train: 5\n",
                          "run.yaml:4: train must be a mapping of keys and values, got '5'");
  expect_error_after_head("train:\n  - steps: 5\n",
                          "run.yaml:5: train must be a mapping of keys and values, got a list");
  expect_error_after_head("svd: {targets: {mlp: 1}}\n",
                          "run.yaml:4: svd.targets must be a list of texts, got a mapping");
  expect_error_after_head("svd:\n  targets:\n    - mlp\n    - [x]\n",
                          "run.yaml:7: svd.targets must be one of mlp, attention, all, q_proj, "
                          "k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, got a list");
  expect_error("- a\n- b\n",
               "run.yaml:1: the configuration must be a mapping of keys and values, got a list");
  expect_error("model: {path: m}\nrun_dir: r\ntask:\n  train: t\n  reward: exact\n  chat: yes\n",
               "run.yaml:6: task.chat must be true or false, got 'yes'");
  expect_error("model:\n  path: [a]\n", "run.yaml:2: model.path must be a text, got a list");
  expect_error("model:\n  path: \"\"\n", "run.yaml:2: model.path must be given, got ''");
  expect_error("model: {path: m}\nrun_dir: r\n? [a, b]\n: c\n",
               "run.yaml:3: a key of the configuration must be a text, got a list");
}

TEST_F(ConfigErrors, OutOfRange) {
  expect_error_after_head("train:\n  seed: 1\n  steps: 0\n",
                          "run.yaml:6: train.steps must be between 1 and 1000000, got 0");
  expect_error_after_head("train: {steps: 99999999999999999999}\n",
                          "run.yaml:4: train.steps must be between 1 and 1000000, got "
                          "99999999999999999999, which is too large a number");
  expect_error_after_head("train: {seed: -1}\n",
                          "run.yaml:4: train.seed must be at least 0, got -1");
  expect_error_after_head("train: {temperature: 0}\n",
                          "run.yaml:4: train.temperature must be between 1e-06 and 100, got 0");
  expect_error_after_head("train: {beta1: 1}\n",
                          "run.yaml:4: train.beta1 must be at least 0 and below 1, got 1");
  expect_error_after_head("evaluate: {top_p: 1.5}\n",
                          "run.yaml:4: evaluate.top_p must be above 0 and at most 1, got 1.5");
  expect_error_after_head("threads: 0\n", "run.yaml:4: threads must be between 1 and 1024, got 0");
  expect_error("model:\n  path: m\n  dtype: fp8\n",
               "run.yaml:3: model.dtype must be one of float32, bfloat16, got 'fp8'");
  expect_error_after_head(
      "train:\n  baseline: critic\n",
      "run.yaml:5: train.baseline must be one of leave_one_out, group_mean, whitened, none, got "
      "'critic'");
  expect_error("task:\n  train: t\n  reward: guess\n",
               "run.yaml:3: task.reward must be one of exact, last_number, multiple_choice, regex, "
               "random, contains, got 'guess'");
  expect_error("task:\n  train: t\n  reward: exact\n  truncated: Wrong\n",
               "run.yaml:4: task.truncated must be one of wrong, mask, score, got 'Wrong'");
  expect_error("task:\n  train: t\n  reward: exact\n  max_new_tokens: 0\n",
               "run.yaml:4: task.max_new_tokens must be between 1 and 1000000, got 0");
  for (const char* layers : {"some", "3..1", "1,,2", "0..", "-1", "0...3", "1 ,2", ""})
    expect_error_after_head("svd:\n  layers: \"" + std::string(layers) + "\"\n",
                            "run.yaml:5: svd.layers must be all, or layers and ranges such as "
                            "0..11,40..79, got '" +
                                std::string(layers) + "'");
}

TEST_F(ConfigErrors, Files) {
  EXPECT_EQ(error_of("none.yaml"),
            "none.yaml: no such file; the path is relative to the working directory");
  EXPECT_EQ(error_of("."), ".: is a folder and holds no run; give a YAML file or a run folder");
  expect_error("", "run.yaml: the configuration is empty; see examples/quickstart.yaml");
  expect_error("# only this\n",
               "run.yaml: the configuration is empty; see examples/quickstart.yaml");
  expect_error("run_dir: r\n", "run.yaml: model.path is missing: the folder of the language model");
  expect_error("model: {path: m}\n",
               "run.yaml: run_dir is missing: the folder that a run writes into");
  expect_error("model: {path: m}\nrun_dir: r\n",
               "run.yaml: task is missing: the path of a task file, or a task");
  expect_error_after_head("---\nrun_dir: b\n",
                          "run.yaml:4: a second YAML document; one file holds one configuration");
}

TEST_F(ConfigErrors, Syntax) {
  const auto error_at = [&](const std::string& yaml, const std::string& place) {
    write_text("run.yaml", yaml);
    EXPECT_THAT(error_of("run.yaml"), ::testing::StartsWith(place + ": not valid YAML: ")) << yaml;
  };
  error_at("model: {path: m\nrun_dir: r\n", "run.yaml:2");
  error_at("model:\n  path: m\n   dtype: x\n", "run.yaml:3");
  error_at("model:\n\tpath: m\n", "run.yaml:2");
  error_at("model:\n  path: \"\\q\"\n", "run.yaml:2");
  error_at("model: {path: m}\nrun_dir: *nowhere\n", "run.yaml:2");
  error_at("# head\n,model: {path: m}\n", "run.yaml:2");
  error_at("model: {path: m}\n}\n", "run.yaml:2");
  error_at("model: {path: m}}\n", "run.yaml:1");
  error_at("a: b: c\n", "run.yaml:1");
}

TEST_F(ConfigErrors, DuplicateKeys) {
  expect_error_after_head("run_dir: b\n",
                          "run.yaml:4: duplicate key 'run_dir', already given at run.yaml:2");
  expect_error_after_head("train:\n  steps: 1\n  seed: 2\n  steps: 1\n",
                          "run.yaml:7: duplicate key 'steps', already given at run.yaml:5");
}

TEST_F(ConfigErrors, Tasks) {
  const std::string head = "model: {path: m}\nrun_dir: r\n";
  expect_error(head + "task: tasks/none.yaml\n",
               "run.yaml:3: task file 'tasks/none.yaml' does not exist; the path is relative to "
               "the working directory");
  expect_error(head + "task:\n  - {train: t, reward: exact}\n  - none.yaml\n",
               "run.yaml:5: task file 'none.yaml' does not exist; the path is relative to the "
               "working directory");
  expect_error(head + "task: .\n", "run.yaml:3: task file '.' is not a file");
  expect_error(head + "task: []\n", "run.yaml:3: the list of tasks is empty");
  expect_error(head + "task:\n  - [a]\n",
               "run.yaml:4: task.0 must be a path, a task or a list of them, got a list");
  expect_error(head + "task:\n  train: t\n",
               "run.yaml:3: task.reward is missing: say what counts as right, such as reward: "
               "last_number");
  expect_error(head + "task:\n  reward: exact\n",
               "run.yaml:3: the task has no data: give task.train, validation or test");
  expect_error(head + "task:\n  train: t\n  reward: exact\n  rewards: [exact]\n",
               "run.yaml:5: give either task.reward or task.rewards");
  expect_error(head + "task:\n  train: t\n  rewards: []\n",
               "run.yaml:5: task.rewards is an empty list");
  expect_error(head + "task:\n  train: t\n  rewards:\n    - weight: 1\n",
               "run.yaml:6: task.rewards.kind is missing: it must be one of exact, last_number, "
               "multiple_choice, regex, random, contains");
  expect_error(head + "task:\n  train: t\n  reward: regex\n",
               "run.yaml:5: task.reward.pattern is missing: a regex reward needs one");
  expect_error(head +
                   "task:\n  train: t\n  rewards:\n    - exact\n    - {kind: exact, pattern: "
                   "a}\n",
               "run.yaml:7: task.rewards.1.pattern and match_only belong to kind: regex");
  const std::pair<const char*, const char*> of_other_kinds[] = {
      {"exact, tolerance: 0.1", "tolerance belongs to kind: last_number"},
      {"regex, pattern: a, tolerance: 0.1", "tolerance belongs to kind: last_number"},
      {"last_number, seed: 3", "seed belongs to kind: random"},
      {"last_number, ignore_case: false", "ignore_case belongs to kind: exact, contains or regex"},
      {"multiple_choice, ignore_case: false",
       "ignore_case belongs to kind: exact, contains or regex"}};
  for (const auto& [reward, problem] : of_other_kinds)
    expect_error(head + "task:\n  train: t\n  reward: {kind: " + reward + "}\n",
                 std::string("run.yaml:5: task.reward.") + problem);
  const std::string exact = head + "task:\n  train: t\n  reward: {kind: exact}\n";
  expect_error(
      exact,
      "--set task.rewards.0.tolerance=0.1: task.rewards: tolerance belongs to kind: last_number",
      {"task.rewards.0.tolerance=0.1"});
  expect_error(exact, "no error", {"task.rewards.0.ignore_case=false"});
  expect_error(head + "task:\n  train: t\n  reward: exact\n  few_shot:\n    count: 2\n",
               "run.yaml:7: task.few_shot.file is missing");
  expect_error(head + "task:\n  train: t\n  reward: exact\n  stop: [\"\"]\n",
               "run.yaml:6: task.stop must not hold an empty text");
  expect_error(head +
                   "task:\n  - {name: a, train: t, reward: exact}\n"
                   "  - {name: a, train: t, reward: exact}\n",
               "run.yaml:5: two tasks have the name 'a'; give one a name");
}

TEST_F(ConfigErrors, InsideATaskFile) {
  const std::string run = "model: {path: m}\nrun_dir: r\ntask: tasks/t.yaml\n";
  const auto expect_in_task = [&](const std::string& task, const std::string& expected) {
    write_text("tasks/t.yaml", task);
    expect_error(run, expected);
  };
  expect_in_task("train: t\nreward: exact\n", "no error");
  expect_in_task("train: t\nreward: exact\n\nstopp: x\n",
                 "tasks/t.yaml:4: unknown key 'stopp', did you mean 'stop'?");
  expect_in_task("train: t\nreward: exact\nmax_new_tokens: many\n",
                 "tasks/t.yaml:3: max_new_tokens must be a whole number, got 'many'");
  expect_in_task("train: t\n",
                 "tasks/t.yaml: reward is missing: say what counts as right, such as reward: "
                 "last_number");
  expect_in_task("", "tasks/t.yaml: the task file is empty");
  expect_in_task("train: {\n", "tasks/t.yaml:2: not valid YAML: end of map flow not found");
  expect_in_task("file: other.yaml\n",
                 "tasks/t.yaml:1: unknown key 'file', did you mean 'few_shot.file'?");
  // An empty line of the task's own few-shot block.
  expect_in_task("train: t\nreward: exact\nfew_shot:\n  count: 1\n",
                 "tasks/t.yaml:4: few_shot.file is missing");
}

TEST_F(ConfigErrors, SettingsThatDoNotGoTogether) {
  expect_error_after_head("train:\n  prompts_per_chunk: 3\n",
                          "run.yaml:5: train.prompts_per_chunk (3) must divide "
                          "train.prompts_per_step (8)");
  expect_error_after_head("train:\n  samples_per_prompt: 1\n",
                          "run.yaml:5: train.samples_per_prompt must be at least 2 with "
                          "train.baseline leave_one_out, which compares the replies of one prompt");
  expect_error_after_head("train: {samples_per_prompt: 1, baseline: none}\n", "no error");
  expect_error_after_head("train:\n  token_reduction: mean\n",
                          "run.yaml:5: train.token_reduction mean needs "
                          "train.token_reduction_length above 0, the number of tokens to divide "
                          "by");
  expect_error_after_head("train:\n  seed: 1\n  token_reduction_length: 9\n",
                          "run.yaml:6: train.token_reduction_length has no meaning with "
                          "train.token_reduction sum; remove it or set train.token_reduction to "
                          "mean");
  expect_error_after_head("train:\n  kl_form: full\n",
                          "run.yaml:5: train.kl_form full has no effect while train.kl_beta is 0; "
                          "set train.kl_beta");
  expect_error_after_head("train:\n  early_stop_after: 2\n",
                          "run.yaml:5: train.early_stop_after needs train.validate_every above 0");
  expect_error_after_head("train:\n  validate_every: 2\n",
                          "run.yaml:5: train.validate_every needs a validation split, and task "
                          "'task' has none");
  expect_error_after_head("train:\n  steps: 5\n  warmup_steps: 6\n",
                          "run.yaml:6: train.warmup_steps (6) must not exceed train.steps (5)");
  expect_error_after_head("train:\n  reward_right: -2\n",
                          "run.yaml:5: train.reward_right must be above train.reward_wrong");
  // The override is to blame when it is what breaks the pair.
  expect_error_after_head("train:\n  prompts_per_chunk: 4\n",
                          "--set train.prompts_per_step=6: train.prompts_per_chunk (4) must divide "
                          "train.prompts_per_step (6)",
                          {"train.prompts_per_step=6"});
}

// Other commands than training do not ask for what only it uses.
TEST_F(ConfigErrors, WhatOnlyTrainingUses) {
  write_text("run.yaml",
             "model: {path: m}\nrun_dir: r\ntask: {test: t, reward: exact}\n"
             "train: {validate_every: 2, prompts_per_chunk: 3}\n");
  EXPECT_THAT(error_of("run.yaml"), ::testing::HasSubstr("prompts_per_chunk"));
  EXPECT_EQ(load_config("run.yaml", {}, /*for_training=*/false).train.validate_every, 2);
}

TEST_F(ConfigErrors, NamesOfOneLine) {
  const auto name = [&](const std::string& text, const std::string& expected) {
    expect_error("model: {path: m}\nrun_dir: r\ntask:\n  train: t\n  reward: exact\n  name: \"" +
                     text + "\"\n",
                 expected);
  };
  const std::string why =
      "' holds a control character, such as a tab or a line end: give a name of one line, since "
      "tables and logs show it";
  name("a\\tb", "run.yaml:6: task.name 'a b" + why);
  name("a\\nb", "run.yaml:6: task.name 'a b" + why);
  name("a\\x85", "run.yaml:6: task.name 'a\u0085" + why);
  name("t\u00fcr \u7b97\u6570", "no error");
}

TEST_F(ConfigErrors, NumbersThatNothingHolds) {
  expect_error_after_head(
      "train: {seed: 18446744073709551615}\n",
      "run.yaml:4: train.seed must be at least 0, got 18446744073709551615, which "
      "is too large a number: the largest that is read is 9223372036854775807");
  expect_error_after_head("",
                          "--set train.seed=-99999999999999999999: train.seed must be at least 0, "
                          "got -99999999999999999999, which is too small a number",
                          {"train.seed=-99999999999999999999"});
  expect_error_after_head("train: {seed: 9223372036854775807}\n", "no error");
}

TEST_F(ConfigErrors, ATaskFileInPlaceOfAConfiguration) {
  for (const char* key : {"prompt", "reward", "few_shot", "max_new_tokens"})
    expect_error(std::string(key) + ": x\n",
                 std::string("run.yaml:1: unknown key '") + key +
                     "', which belongs to a task: write it under task, or "
                     "name the task file there");
}

// As other programs or editors leave them.
TEST_F(ConfigErrors, FilesThatLookRight) {
  expect_error_after_head(
      "# L\xf6sung\n",
      "run.yaml:4: not valid UTF-8; write the file in UTF-8 (iconv -f latin1 -t "
      "UTF-8, if it is Latin-1)");
  expect_error_after_head("train:\n\tsteps: 5\n",
                          "run.yaml:5: not valid YAML: illegal map value (a tab stands before the "
                          "text; YAML wants blanks)");
  expect_error_after_head("train: &t {seed: 1}\nevaluate:\n  <<: *t\n",
                          "run.yaml:6: unknown key '<<': YAML's merge key is not supported; write "
                          "the settings out");
  write_text("task.yaml", "train: t\nreward: exact\nsystem: \"\xe9\"\n");
  expect_error(
      "model: {path: m}\nrun_dir: r\ntask: task.yaml\n",
      "task.yaml:3: not valid UTF-8; write the file in UTF-8 (iconv -f latin1 -t UTF-8, if "
      "it is Latin-1)");
}

TEST_F(ConfigErrors, FoldersThatSomethingElseNeeds) {
  for (const char* variable : {"$HOME", "${SCRATCH}", "$_x"})
    expect_error_after_head("",
                            std::string("--set svd.store=") + variable +
                                "/f: svd.store begins with '" + variable +
                                "', which only a shell replaces; write it out, or ./$... "
                                "for a folder of that name",
                            {std::string("svd.store=") + variable + "/f"});
  expect_error_after_head("", "no error", {"svd.store=./$HOME", "run_dir=a$b"});
  expect_error_after_head(
      "svd: {store: ./m/}\n",
      "run.yaml:4: svd.store is the model's folder 'm'; the decomposed matrices "
      "need a folder of their own");
  expect_error_after_head(
      "",
      "--set svd.store=r: svd.store is run_dir 'r'; the decomposed matrices need "
      "a folder of their own",
      {"svd.store=r"});
}

// What YAML makes of backslashes between double quotes, and other texts that only look right.
TEST_F(ConfigErrors, TextsThatAreNotWhatWasMeant) {
  const std::string quotes =
      ": between double quotes YAML reads \\b, \\f, \\t and their like as such; write it between "
      "single quotes";
  const auto task = [&](const std::string& line, const std::string& expected) {
    expect_error(
        "model: {path: m}\nrun_dir: r\ntask:\n  train: t\n  reward: exact\n  " + line + "\n",
        "run.yaml:6: " + expected);
  };
  task("prompt: \"{question} in \\boxed{{}}.\"",
       "task.prompt holds the control character U+0008 before 'oxed{{}}.'" + quotes);
  task("prompt: \"{question} \\frac\"",
       "task.prompt holds the control character U+000C before 'rac'" + quotes);
  task("system: \"2 \\times 3\"",
       "task.system holds the control character U+0009 before 'imes'" + quotes);
  task("stop: [\"\\e[0m\"]", "task.stop holds the control character U+001B before '[0m'" + quotes);
  expect_error(
      "model: {path: m}\nrun_dir: r\ntask: {train: t,\n  rewards: [{kind: regex, pattern: "
      "\"\\b8\\b\"}]}\n",
      "run.yaml:4: task.rewards.pattern holds the control character U+0008 before '8'" + quotes);
  expect_error(
      "model: {path: m}\nrun_dir: r\ntask: {train: t,\n  rewards: [{kind: regex, pattern: "
      "'is {a}'}]}\n",
      "run.yaml:4: task.rewards.pattern: the pattern 'is {a}' has {a}: no field is filled "
      "into a pattern, what it finds is compared with the answer; for braces as text "
      "write \\{a\\}");
  const std::string home =
      " begins with '~', which only a shell replaces; write out the home folder, or ./~ for a "
      "folder of that name";
  expect_error_after_head("svd: {store: ~/store}\n", "run.yaml:4: svd.store" + home);
  for (const char* key : {"model.path", "run_dir", "train.init_from", "task.few_shot.file"})
    expect_error_after_head("", "--set " + std::string(key) + "=~/x: " + key + home,
                            {std::string(key) + "=~/x"});
}

TEST_F(ConfigErrors, OneSettingOfOneReward) {
  const std::string head =
      "model: {path: m}\nrun_dir: r\ntask: {train: t, rewards: [exact, random]}\n";
  expect_error(head, "no error", {"task.rewards.1.weight=2", "task.0.rewards.0=contains"});
  expect_error(head,
               "--set task.rewards.2.weight=2: task.rewards.2.weight: there are 2 rewards, counted "
               "from 0: name one, such as task.rewards.0.weight",
               {"task.rewards.2.weight=2"});
  for (const char* weight : {"0", "-1"})  // refused here, not when the items are read
    expect_error(head,
                 std::string("--set task.rewards.0.weight=") + weight +
                     ": task.rewards.0.weight must be above 0 and at most 1000000, got " + weight,
                 {std::string("task.rewards.0.weight=") + weight});
  expect_error(head, "--set task.rewards.0.wieght=2: unknown key 'wieght', did you mean 'weight'?",
               {"task.rewards.0.wieght=2"});
  expect_error(head,
               "--set task.rewards.0.kind=regex: task.rewards: a pattern belongs to kind: regex, "
               "which needs one",
               {"task.rewards.0.kind=regex"});
  expect_error(head, "no error", {"task.rewards.0.kind=regex", "task.rewards.0.pattern=a+"});
}

TEST_F(ConfigErrors, Overrides) {
  const auto expect_refused = [&](const std::string& text, const std::string& message) {
    expect_error_after_head("", "--set " + text + ": " + message, {text});
  };
  expect_refused("train.stepz=5", "unknown key 'train.stepz', did you mean 'train.steps'?");
  expect_refused("steps=5", "unknown key 'steps', did you mean 'train.steps'?");
  expect_refused("train.steps", "an override is written key=value, such as train.steps=5");
  expect_refused("=5", "an override is written key=value, such as train.steps=5");
  expect_refused("train=5", "train is a section; set one of its keys, such as train.steps");
  expect_refused("train.steps=many", "train.steps must be a whole number, got 'many'");
  expect_refused("train.steps=0", "train.steps must be between 1 and 1000000, got 0");
  expect_refused("model.path=", "model.path must be given, got ''");
  expect_refused("svd.targets=[mlp", "not valid YAML: end of sequence flow not found");
  expect_refused("svd.targets=mlpp",
                 "svd.targets must be one of mlp, attention, all, q_proj, k_proj, v_proj, o_proj, "
                 "gate_proj, up_proj, down_proj, got 'mlpp'");
  expect_refused("task.promt=x", "unknown key 'task.promt', did you mean 'task.prompt'?");
  expect_refused("task.few_shot=x",
                 "task.few_shot is a section; set one of its keys, such as task.few_shot.file");
  expect_refused("task.3.weight=1", "there is 1 task, counted from 0");
  expect_refused("task=none.yaml",
                 "task file 'none.yaml' does not exist; the path is relative to the working "
                 "directory");
  expect_refused("train.min_p=0.1",
                 "unknown key 'train.min_p': training samples are untruncated, so that their "
                 "probabilities are those of the policy; min_p exists only under evaluate");
  expect_error_after_head("", "--set run_dir=\xFF: not valid UTF-8", {"run_dir=\xFF"});
  write_text("t.yaml", "train: t\nreward: exact\n");
  expect_error("model: {path: m}\nrun_dir: r\ntask: [t.yaml, {train: u, reward: exact}]\n",
               "--set task.weight=2: there are 2 tasks; name one, such as task.0.weight",
               {"task.weight=2"});
  // A line break in an argument stays on one line.
  expect_error_after_head("",
                          "--set train.steps=a b: train.steps must be a whole number, got 'a b'",
                          {"train.steps=a\nb"});
}

TEST_F(ConfigErrors, PathsThatLieBesideTheFile) {
  write_text("exp/data/train.jsonl", "{}\n");
  write_text("exp/tasks/t.yaml", "train: ../data/train.jsonl\nreward: exact\n");
  write_text("exp/m/config.json", "{}");
  const std::string start =
      "' does not exist in the working directory, but in 'exp': paths are relative "
      "to the working directory; start svfleet there, or write the path from here";
  write_text("exp/run.yaml",
             "model: {path: m}\nrun_dir: r\ntask: {train: data/none, reward: exact}\n");
  EXPECT_EQ(error_of("exp/run.yaml"), "exp/run.yaml:1: model.path 'm" + start);
  write_text("exp/run.yaml",
             "model: {path: n}\nrun_dir: r\ntask: {train: data/train.jsonl, reward: exact}\n");
  EXPECT_EQ(error_of("exp/run.yaml"), "exp/run.yaml:3: task: file 'data/train.jsonl" + start);
  write_text("exp/run.yaml", "model: {path: n}\nrun_dir: r\ntask: tasks/t.yaml\n");
  EXPECT_EQ(error_of("exp/run.yaml"),
            "exp/run.yaml:3: task file 'tasks/t.yaml' does not exist; the path is relative to the "
            "working directory, and it is there in 'exp': start svfleet there");
  write_text("exp/run.yaml", "model: {path: n}\nrun_dir: r\ntask: exp/tasks/t.yaml\n");
  EXPECT_EQ(load_config("exp/run.yaml", {}).tasks[0].train, "exp/data/train.jsonl");
}

}  // namespace
}  // namespace svfleet
