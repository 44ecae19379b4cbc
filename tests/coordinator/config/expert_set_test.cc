// Expert sets as they are written, and the one line that a wrong one gives.
#include "coordinator/config/expert_set.h"

#include <gmock/gmock.h>

#include "comm/error.h"
#include "coordinator/config/classifier.h"
#include "rl/reward.h"
#include "tests/coordinator/config/files.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using ExpertSets = ConfigFiles;

ExpertSet read(const std::string& text, const std::string& path = "set.yaml") {
  write_text(path, text);
  return load_expert_set(path);
}

std::string error_of(const std::string& text) {
  try {
    choices_of(read(text));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "no error";
}

TEST_F(ExpertSets, IsAListOfFilesBesideIt) {
  const ExpertSet set = read("- a/first.safetensors\n- /b/second.safetensors\n", "sets/one.yaml");
  ASSERT_EQ(set.members.size(), 2u);
  EXPECT_EQ(set.members[0].file, "sets/a/first.safetensors");
  EXPECT_EQ(set.members[1].file, "/b/second.safetensors");
  EXPECT_THAT(set.labels(), ElementsAre("first", "second", "other"));
  EXPECT_EQ(set.members[1].about, "second");
  EXPECT_EQ(set.owner_of("second"), 1u);
  EXPECT_EQ(set.owner_of("third"), 2u);
  EXPECT_EQ(set.question.by, AskBy::kLikelihood);
}

TEST_F(ExpertSets, AsksWithItsChoices) {
  const ExpertSet set = read(R"(
experts:
  - {file: /a, label: numbers, about: comparing numbers, tasks: [max3, max5]}
  - {file: /b, label: sums}
classifier: /c
question: {by: answer, max_new_tokens: 3}
)");
  EXPECT_THAT(set.files(), ElementsAre("/a", "/b", "/c"));
  EXPECT_EQ(set.owner_of("max5"), 0u);
  EXPECT_EQ(set.owner_of("sums"), 1u);
  EXPECT_EQ(set.question.by, AskBy::kAnswer);
  EXPECT_THAT(letters_of(set), ElementsAre("A", "B", "C"));
  EXPECT_EQ(question_about(set, "What is {choices}?"),
            "What is {choices}?\n\nDo not answer this question. What is it about?\n"
            "A. comparing numbers\nB. sums\nC. something else\nAnswer with only A, B or C.");
  const ExpertSet none = read("experts: [/a, /b]\nquestion: {other: ''}\n");
  EXPECT_THAT(letters_of(none), ElementsAre("A", "B"));
}

TEST_F(ExpertSets, AClassifierLearnsFromTheTasksTrainSplits) {
  const ExpertSet set = read(R"(
experts:
  - {file: /a, label: numbers, about: "numbers {of all kinds}", tasks: [max, min]}
  - {file: /b, label: words}
)");
  Config config;
  config.tasks.resize(4);
  const char* const names[] = {"max", "min", "words", "elsewhere"};
  for (size_t t = 0; t < 4; ++t) {
    config.tasks[t].name = names[t];
    config.tasks[t].train = std::string(names[t]) + ".jsonl";
    config.tasks[t].test = "secret.jsonl";
    config.tasks[t].prompt = "Say {what}!";
  }
  const Config made = classifier_config(config, set);
  ASSERT_EQ(made.tasks.size(), 4u);
  const TaskSpec& one = made.tasks[1];
  EXPECT_EQ(one.train, "min.jsonl");
  EXPECT_EQ(one.test, "");
  EXPECT_EQ(one.prompt,
            "Say {what}!\n\nDo not answer this question. What is it about?\nA. numbers {{of all "
            "kinds}}\nB. words\nC. something else\nAnswer with only A, B or C.");
  EXPECT_EQ(one.weight, 0.5);
  EXPECT_EQ(made.tasks[2].weight, 1);
  const auto score = [&](size_t task, const std::string& reply) {
    return score_reply(made.tasks[task].rewards, made.tasks[task].prefill + reply, {});
  };
  EXPECT_EQ(score(0, " A"), 1);
  EXPECT_EQ(score(1, " (A). numbers"), 1);
  EXPECT_EQ(score(2, " B"), 1);
  EXPECT_EQ(score(3, " C"), 1);
  EXPECT_EQ(score(0, " B"), 0);
  EXPECT_EQ(score(0, " A or B"), 0);
  EXPECT_EQ(score(0, " An idea"), 0);
  // Of a run of several experts it is a run of one, with the questions as its tasks.
  ExpertConfig& expert = config.experts.emplace_back();
  expert.name = "large";
  expert.tasks = {config.tasks[0]};
  EXPECT_EQ(print_config(classifier_config(config, set)), print_config(made));
  EXPECT_THAT(print_config(config), HasSubstr("large"));  // control: it would be shown
  config.tasks.resize(2);
  EXPECT_THROW(classifier_config(config, set), Error);  // nothing to tell apart
}

TEST_F(ExpertSets, WhatIsWrongIsSaidWithItsLine) {
  EXPECT_THAT(error_of(""), HasSubstr("set.yaml: the expert set is empty"));
  EXPECT_THAT(error_of("experts: []\n"), HasSubstr("set.yaml:1: experts must be a list"));
  EXPECT_THAT(error_of("classifier: /c\n"), HasSubstr("'experts' is missing"));
  EXPECT_THAT(error_of("experts: [/a]\nclasifier: /c\n"),
              HasSubstr("set.yaml:2: unknown key 'clasifier', did you mean 'classifier'?"));
  EXPECT_THAT(error_of("- {label: a}\n"), HasSubstr("experts.0.file is missing"));
  EXPECT_THAT(error_of("- /a\n- /a\n"), HasSubstr("set.yaml:2: the expert '/a' is there already"));
  EXPECT_THAT(error_of("- /a/final.x\n- /b/final.x\n"),
              HasSubstr("set.yaml:2: the label 'final' is there already, at"));
  EXPECT_THAT(error_of("- {file: /a, tasks: [t]}\n- {file: /b, tasks: [t]}\n"),
              HasSubstr("the task 't' is there already"));
  EXPECT_THAT(error_of("- {file: /a, label: other}\n"), HasSubstr("means the base"));
  EXPECT_THAT(error_of("experts: [/a]\nquestion: {by: guess}\n"),
              HasSubstr("question.by must be one of likelihood, calibrated, answer"));
  EXPECT_THAT(error_of("experts: [/a]\nquestion: {text: 'what?'}\n"),
              HasSubstr("does not hold {prompt}"));
  std::string many;
  for (int i = 0; i < 26; ++i) many += "- /e" + std::to_string(i) + "\n";
  EXPECT_THAT(error_of(many), HasSubstr("27 choices, more than the 26 letters"));
}

}  // namespace
}  // namespace svfleet
