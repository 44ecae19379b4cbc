#include "rl/task.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/rl/task_files.h"

namespace svfleet {
namespace {

std::string turns(const Item& item) {
  std::string text;
  for (const Message& m : item.messages) text += "<" + m.role + ">" + m.content;
  return text;
}

TEST(Task, ReadsItemsInOrder) {
  TaskFile file(
      "{\"question\": \"1+1?\", \"answer\": \"2\"}\r\n"
      "\n"
      "  {\"question\": \"2+2?\", \"answer\": 4}  \n"
      "{\"question\": \"3+3?\", \"answer\": \"#### 6\"}");
  const Task task = file.load();
  ASSERT_EQ(task.items.size(), 3u);
  EXPECT_EQ(turns(task.items[0]), "<user>1+1?");
  EXPECT_EQ(turns(task.items[1]), "<user>2+2?");
  EXPECT_EQ(task.items[1].gold.answer, "4");
  EXPECT_EQ(task.items[0].index, 0);
  EXPECT_EQ(task.items[1].index, 2);  // its line
  EXPECT_EQ(file.load(2).items.size(), 2u);
  EXPECT_EQ(file.load(99).items.size(), 3u);
}

TEST(Task, TheLimitSparesTheRestFromReading) {
  TaskFile file("{\"question\": \"1+1?\", \"answer\": \"2\"}\nnot json\n");
  EXPECT_EQ(file.load(1).items.size(), 1u);
  EXPECT_THROW(file.load(), Error);
}

TEST(Task, TemplatesReachInside) {
  TaskFile file(
      R"({"q": {"stem": "Why?", "tags": ["easy", "short"]}, "n": 3, "x": 1.5, "ok": true, "a": {"b": "7"}})"
      "\n");
  file.spec.prompt = "{{{q.stem}}} {q.tags.1} {n} {x} {ok}";
  file.spec.answer = "a.b";
  const Task task = file.load();
  EXPECT_EQ(turns(task.items[0]), "<user>{Why?} short 3 1.5 true");
  EXPECT_EQ(task.items[0].gold.answer, "7");
}

TEST(Task, BracesRoundWhatIsNoNameAreText) {
  TaskFile file("{\"question\": \"1+1?\", \"answer\": \"2\", \"my field\": \"x\"}\n");
  const std::pair<const char*, const char*> prompts[] = {
      {"{question} in \\boxed{}.", "1+1? in \\boxed{}."},
      {"{question} in \\boxed{{}}.", "1+1? in \\boxed{}."},
      {"\\frac{1}{2} {question}", "\\frac{1}{2} 1+1?"},
      {"\\boxed{\\frac{1}{2}} {question}", "\\boxed{\\frac{1}{2}} 1+1?"},
      {"{\"answer\": 3} {question}", "{\"answer\": 3} 1+1?"},
      {"{my field} {question}", "x 1+1?"},
      {"\\boxed{{answer}} {question}", "\\boxed{answer} 1+1?"},
      {"{{{question}}}", "{1+1?}"},
  };
  for (const auto& [prompt, text] : prompts) {
    file.spec.prompt = prompt;
    EXPECT_EQ(turns(file.load().items[0]), std::string("<user>") + text) << prompt;
  }
}

TEST(Task, NumbersKeepTheirDigits) {
  TaskFile file(
      "{\"question\": 123456789012345678901234567890, \"answer\": -98765432109876543210987}\n"
      "{\"question\": 9007199254740993, \"answer\": 18446744073709551615}\n"
      "{\"question\": 3.14159265358979323846, \"answer\": 1e2}\n"
      "{\"question\": 3.10, \"answer\": 0.1}\n");
  const Task task = file.load();
  const std::pair<const char*, const char*> expected[] = {
      {"123456789012345678901234567890", "-98765432109876543210987"},
      {"9007199254740993", "18446744073709551615"},
      {"3.14159265358979323846", "100.0"},
      {"3.1", "0.1"}};
  for (size_t i = 0; i < task.items.size(); ++i) {
    EXPECT_EQ(task.items[i].messages[0].content, expected[i].first);
    EXPECT_EQ(task.items[i].gold.answer, expected[i].second);
  }
  EXPECT_EQ(score_reply(file.spec.rewards, "-98765432109876543210988", task.items[0].gold), 0);
  EXPECT_EQ(score_reply(file.spec.rewards, "-98765432109876543210987", task.items[0].gold), 1);
}

TEST(Task, AListOfRightAnswers) {
  TaskFile file("{\"question\": \"a\", \"answer\": [\"red\", 7, \"blue\"]}\n", RewardKind::kExact);
  const Task task = file.load();
  EXPECT_EQ(task.items[0].gold.answer, "red");
  EXPECT_EQ(task.items[0].gold.also, (std::vector<std::string>{"7", "blue"}));
  const TaskFile one("{\"question\": \"a\", \"answer\": [\"red\"]}\n", RewardKind::kExact);
  EXPECT_NE(one.load().content_hash, task.content_hash);
  TaskFile choice(
      R"({"question": "Which?", "choices": ["tin", "iron", "lead"], "answer": ["iron", 2]})"
      "\n",
      RewardKind::kMultipleChoice);
  EXPECT_EQ(choice.load().items[0].gold.answer, "B");
  EXPECT_EQ(choice.load().items[0].gold.also, (std::vector<std::string>{"C"}));
}

TEST(Task, FewShotBecomesTurns) {
  TaskFile file(
      "{\"question\": \"1+1?\", \"sum\": \"2\"}\n"
      "{\"question\": \"9+9?\", \"sum\": \"18\"}\n");
  file.spec.answer = "sum";
  file.spec.few_shot = file.add("solved.jsonl",
                                "{\"question\": \"2+3?\", \"sum\": \"5\"}\n"
                                "{\"question\": \"9+9?\", \"sum\": \"18\"}\n"
                                "{\"question\": \"4+4?\", \"sum\": \"8\"}\n");
  file.spec.few_shot_count = 2;
  file.spec.has_system = true;
  file.spec.system = "Add.";
  Task task = file.load();
  EXPECT_EQ(turns(task.items[0]),
            "<system>Add.<user>2+3?<assistant>5<user>9+9?<assistant>18<user>1+1?");
  // An item's own solution is not shown to it.
  EXPECT_EQ(turns(task.items[1]), "<system>Add.<user>2+3?<assistant>5<user>9+9?");

  file.spec.few_shot_count = 0;  // all
  file.spec.few_shot_answer = "It is {answer} for {question}";
  task = file.load();
  EXPECT_EQ(task.items[0].messages.size(), 8u);
  EXPECT_EQ(task.items[0].messages[2].content, "It is 5 for 2+3?");

  file.spec.chat = false;
  file.spec.prompt = "Q: {question}\nA:";
  file.spec.few_shot_answer = "";
  file.spec.few_shot_count = 1;
  task = file.load();
  EXPECT_EQ(turns(task.items[0]), "<user>Add.\n\nQ: 2+3?\nA: 5\n\nQ: 1+1?\nA:");
  EXPECT_EQ(task.items[0].question, "Q: 1+1?\nA:");  // what tells items apart
}

TEST(Task, ChoicesInEveryForm) {
  const char* labelled =
      R"({"question": {"stem": "Which?", "choices": [{"text": "tin", "label": "1"}, {"text": "iron", "label": "2"}]}, "answerKey": "2"})";
  TaskFile arc(std::string(labelled) + "\n", RewardKind::kMultipleChoice);
  arc.spec.prompt = "{question.stem}\n{choices}";
  arc.spec.answer = "answerKey";
  Task task = arc.load();
  EXPECT_EQ(turns(task.items[0]), "<user>Which?\n1. tin\n2. iron");
  EXPECT_EQ(task.items[0].gold.answer, "2");
  EXPECT_EQ(task.items[0].gold.labels, (std::vector<std::string>{"1", "2"}));
  arc.spec.choices = "question.choices";
  EXPECT_EQ(arc.load().items[0].gold.choices, (std::vector<std::string>{"tin", "iron"}));

  // Answers as label, label in the other case, index from 0, and text.
  const struct {
    const char* answer;
    const char* label;
  } answers[] = {{"\"B\"", "B"}, {"\"b\"", "B"}, {"1", "B"}, {"0", "A"}, {"\"iron\"", "B"}};
  for (const auto& [answer, label] : answers) {
    TaskFile list(std::string(R"({"question": "Which?", "options": ["tin", "iron"], "answer": )") +
                      answer + "}\n",
                  RewardKind::kMultipleChoice);
    list.spec.choices = "options";
    list.spec.prompt = "{question}\n{choices}";
    task = list.load();
    EXPECT_EQ(task.items[0].gold.answer, label) << answer;
    EXPECT_EQ(turns(task.items[0]), "<user>Which?\nA. tin\nB. iron");
  }

  TaskFile columns(
      R"({"question": "Which?", "choices": {"text": ["tin", "iron"], "label": ["A", "B"]}, "answer": "B"})"
      "\n",
      RewardKind::kMultipleChoice);
  EXPECT_EQ(columns.load().items[0].gold.choices, (std::vector<std::string>{"tin", "iron"}));
  columns.spec.prompt = "{question}\n{choices}";
  for (const RewardKind kind : {RewardKind::kMultipleChoice, RewardKind::kExact}) {
    columns.spec.rewards = {reward(kind)};
    EXPECT_EQ(turns(columns.load().items[0]), "<user>Which?\nA. tin\nB. iron");
  }
  // Where labels stand in the item, 1 is the label 1, not an index.
  TaskFile digit(
      R"({"question": "Which?", "choices": [{"label": "1", "text": "tin"}, {"label": "2", "text": "iron"}], "answer": 1})"
      "\n",
      RewardKind::kMultipleChoice);
  EXPECT_EQ(digit.load().items[0].gold.answer, "1");
}

// A field of that name may be anything where neither the reward nor a template asks for choices.
TEST(Task, WhatIsNoListOfChoicesIsPassedOver) {
  for (const char* field :
       {"[[1, 2], [3]]", "[null]", R"([{"label": "A"}])", R"({"a": 1})", "\"few\"", "3"}) {
    TaskFile file(std::string(R"({"question": "1+1?", "answer": "2", "choices": )") + field +
                  "}\n");
    const Task task = file.load();
    EXPECT_TRUE(task.items[0].gold.choices.empty()) << field;
    EXPECT_EQ(task.items[0].gold.answer, "2");
    file.spec.prompt = "{question} {choices}";  // a control: asked for, it is looked at
    if (*field == '[' || *field == '{') {
      EXPECT_THROW(file.load(), Error) << field;
    }
  }
}

TEST(Task, RewardsWithoutGoldNeedNoAnswer) {
  TaskFile file("{\"question\": \"Say hello\"}\n", RewardKind::kRegex);
  file.spec.rewards[0].pattern = "hello";
  EXPECT_THROW(file.load(), Error);
  file.spec.rewards[0].match_only = true;
  EXPECT_EQ(file.load().items.size(), 1u);
}

TEST(Task, TheHashIsOfContentNotOfPlace) {
  const std::string one = "{\"question\": \"1+1?\", \"answer\": \"2\"}\n";
  const TaskFile a(one), b(one), c("{\"question\": \"1+1?\", \"answer\": \"3\"}\n");
  const std::string hash = a.load().content_hash;
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(b.load().content_hash, hash);
  EXPECT_NE(c.load().content_hash, hash);
  // Every setting that changes what is asked or what counts as right changes it.
  const std::function<void(TaskSpec*)> changes[] = {
      [](TaskSpec* s) { s->prompt = "{question} "; },
      [](TaskSpec* s) { s->has_system = true; },
      [](TaskSpec* s) { s->prefill = "Answer:"; },
      [](TaskSpec* s) { s->chat = false; },
      [](TaskSpec* s) { s->stop = {"x"}; },
      [](TaskSpec* s) { s->stop_tokens = {"x"}; },
      [](TaskSpec* s) { s->max_new_tokens = 65; },
      [](TaskSpec* s) { s->truncated = TruncatedRule::kMask; },
      [](TaskSpec* s) { s->weight = 2; },
      [](TaskSpec* s) { s->rewards[0].tolerance = 0; },
      [](TaskSpec* s) { s->rewards.push_back(reward(RewardKind::kExact)); },
      [](TaskSpec* s) { s->rewards[0].weight = 2; },
  };
  std::set<std::string> hashes = {hash};
  for (const auto& change : changes) {
    TaskFile changed(one);
    change(&changed.spec);
    EXPECT_TRUE(hashes.insert(changed.load().content_hash).second) << hashes.size();
  }
}

}  // namespace
}  // namespace svfleet
