// The data of the example tasks: readable, right, and with nothing of train in validation or test.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "comm/error.h"
#include "rl/task.h"

namespace svfleet {
namespace {

const std::string kTasks = std::string(SVFLEET_SOURCE_DIR) + "/examples/tasks/";

TaskSpec example(const std::string& name, const RewardSpec& reward) {
  TaskSpec spec;
  spec.name = name;
  spec.train = kTasks + name + "/train.jsonl";
  spec.validation = kTasks + name + "/validation.jsonl";
  spec.test = kTasks + name + "/test.jsonl";
  spec.rewards = {reward};
  return spec;
}

std::set<std::string> questions(const Task& task) {
  std::set<std::string> all;
  for (const Item& item : task.items) all.insert(item.messages.back().content);
  return all;
}

void expect_disjoint(const TaskSpec& spec) {
  const char* names[] = {"train", "validation", "test"};
  for (int a = 0; a < 3; ++a)
    for (int b = a + 1; b < 3; ++b) {
      const auto first = questions(load_task(spec, names[a]));
      for (const std::string& question : questions(load_task(spec, names[b])))
        ASSERT_EQ(first.count(question), 0u) << question;
    }
}

TEST(ExampleTasks, LargestOfThree) {
  const TaskSpec spec = example("max3", RewardSpec());
  const std::pair<const char*, size_t> splits[] = {
      {"train", 2000}, {"validation", 200}, {"test", 1000}};
  for (const auto& [split, count] : splits) {
    const Task task = load_task(spec, split);
    ASSERT_EQ(task.items.size(), count);
    for (const Item& item : task.items) {
      int a = 0, b = 0, c = 0;
      ASSERT_EQ(std::sscanf(item.messages[0].content.c_str(),
                            "Which number is the largest: %d, %d, %d? Answer with only the number.",
                            &a, &b, &c),
                3);
      const std::string right = std::to_string(std::max({a, b, c}));
      ASSERT_EQ(score_reply(spec.rewards, right, item.gold), 1);
      ASSERT_EQ(
          score_reply(spec.rewards, "It is " + std::to_string(std::min({a, b, c})), item.gold), 0);
    }
  }
  expect_disjoint(spec);
}

TEST(ExampleTasks, FirstLetter) {
  RewardSpec last_word;
  last_word.kind = RewardKind::kRegex;
  last_word.pattern = "([A-Za-z]+)[^A-Za-z]*$";
  const TaskSpec spec = example("first_letter", last_word);
  for (const char* split : {"train", "validation", "test"})
    for (const Item& item : load_task(spec, split).items) {
      const std::string& question = item.messages[0].content;
      const std::string letter(1, question[question.find('\'') + 1]);
      ASSERT_EQ(score_reply(spec.rewards, letter, item.gold), 1);
      ASSERT_EQ(score_reply(spec.rewards, "The first letter is '" + letter + "'.", item.gold), 1);
      ASSERT_EQ(score_reply(spec.rewards, letter + " it is", item.gold), 0);
    }
  expect_disjoint(spec);
}

// The published data sets of gsm8k.yaml and arc_easy.yaml, where they stand beside the tree.
TEST(ExampleTasks, PublishedSetsLoad) {
  const std::string data = std::string(SVFLEET_SOURCE_DIR) + "/../shared/data/";
  TaskSpec gsm8k;
  gsm8k.name = "gsm8k";
  gsm8k.test = data + "gsm8k/test.jsonl";
  gsm8k.few_shot = data + "gsm8k/train.jsonl";
  gsm8k.few_shot_count = 4;
  gsm8k.rewards = {RewardSpec()};
  TaskSpec arc;
  arc.name = "arc_easy";
  arc.prompt = "{question.stem}\n{choices}";
  arc.answer = "answerKey";
  arc.test = data + "arc/ARC-Easy-Test.jsonl";
  arc.rewards = {RewardSpec()};
  arc.rewards[0].kind = RewardKind::kMultipleChoice;
  try {
    EXPECT_EQ(load_task(gsm8k, "test").items.size(), 1319u);
    EXPECT_EQ(load_task(gsm8k, "test").items[0].messages.size(), 9u);
    EXPECT_EQ(load_task(arc, "test").items.size(), 2376u);
  } catch (const Error& error) {
    if (std::string(error.what()).find(".jsonl:") != std::string::npos) throw;
    GTEST_SKIP() << "no ../shared/data beside the tree";
  }
}

}  // namespace
}  // namespace svfleet
