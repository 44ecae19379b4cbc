#include <gtest/gtest.h>

#include <functional>

#include "tests/rl/task_files.h"

namespace svfleet {
namespace {

const std::string kGood = "{\"question\": \"1+1?\", \"answer\": \"2\"}\n";

// Content, and what the message must say. The bad line is the second one.
struct Case {
  std::string line;
  std::vector<std::string> parts;
};

void expect_parts(const std::vector<std::string>& parts, const TaskFile& file) {
  for (const std::string& part : parts) expect_error(kExitUser, {part}, [&] { file.load(); });
}

TEST(TaskErrors, EachNamesFileAndLine) {
  const Case cases[] = {
      {"{\"question\": \"a\", ", {"items.jsonl:2", "not valid JSON"}},
      {"question: a", {"items.jsonl:2", "not valid JSON"}},
      {"[1, 2]", {"items.jsonl:2", "not a JSON object but array"}},
      {"\"text\"", {"items.jsonl:2", "not a JSON object but string"}},
      {kGood.substr(0, kGood.size() - 1) + kGood, {"items.jsonl:2", "not valid JSON"}},
      {"{\"question\": \"\xff\", \"answer\": \"2\"}", {"items.jsonl:2", "UTF-8"}},
      {"{\"question\": \"a\"}", {"items.jsonl:2", "no field 'answer'", "has: question"}},
      {"{\"answer\": \"2\", \"q\": {\"stem\": 1}}", {"items.jsonl:2", "{question}", "q.stem"}},
      {"{\"question\": [1], \"answer\": \"2\"}", {"items.jsonl:2", "{question}", "array"}},
      {"{\"question\": null, \"answer\": \"2\"}", {"items.jsonl:2", "null"}},
      {"{\"question\": \"a\", \"answer\": \"two\"}", {"items.jsonl:2", "'two' is not a number"}},
      {"{\"question\": \"a\", \"answer\": \"\"}", {"items.jsonl:2", "empty"}},
      {"{\"question\": \"a\", \"answer\": {\"x\": 1}}", {"items.jsonl:2", "answer", "object"}},
      {"{}", {"items.jsonl:2", "no fields"}},
  };
  for (const Case& c : cases) {
    const TaskFile file(kGood + c.line + "\n" + kGood);
    expect_parts(c.parts, file);
  }
  EXPECT_EQ(TaskFile(kGood + kGood).load().items.size(), 2u);  // control
}

TEST(TaskErrors, Choices) {
  const Case cases[] = {
      {R"({"question": "a", "answer": "A"})", {"items.jsonl:1", "'choices'"}},
      {R"({"question": "a", "answer": "A", "choices": "tin"})", {"items.jsonl:1", "a list"}},
      {R"({"question": "a", "answer": "A", "choices": ["tin"]})", {"items.jsonl:1", "no choices"}},
      {R"({"question": "a", "answer": "C", "choices": ["x", "y"]})", {"items.jsonl:1", "'C'"}},
      {R"({"question": "a", "answer": 2, "choices": ["x", "y"]})", {"items.jsonl:1", "'2'"}},
      {R"({"question": "a", "answer": "A", "choices": [{"text": "x"}]})", {"'label'"}},
      {R"({"question": "a", "answer": "A", "choices": [{"text": "x", "label": "A"}, "y"]})",
       {"1 labels for 2 choices"}},
      {R"({"question": "a", "answer": "A", "choices": {"text": ["x"], "label": ["A", "B"]}})",
       {"2 labels for 1 choices"}},
  };
  for (const Case& c : cases) {
    const TaskFile file(c.line + "\n", RewardKind::kMultipleChoice);
    expect_parts(c.parts, file);
  }
}

TEST(TaskErrors, FilesAndSplits) {
  for (const char* empty : {"", "\n\n", " \r\n"})
    expect_error(kExitUser, {"items.jsonl", "no items", "'t'"}, [&] { TaskFile(empty).load(); });
  TaskFile file(kGood);
  file.spec.test = "";
  expect_error(kExitUser, {"'t' has no test split"}, [&] { load_task(file.spec, "test"); });
  file.spec.train = file.scratch / "missing.jsonl";
  expect_error(kExitUser, {"missing.jsonl"}, [&] { file.load(); });
  TaskFile few(kGood);
  few.spec.few_shot = few.add("solved.jsonl", kGood);
  few.spec.few_shot_count = 3;
  expect_error(kExitUser, {"solved.jsonl", "1 solved", "3"}, [&] { few.load(); });
  few.add("solved.jsonl", kGood + "{\n");
  expect_error(kExitUser, {"solved.jsonl:2"}, [&] { few.load(); });
}

TEST(TaskErrors, Templates) {
  TaskFile file(kGood);
  for (const char* bad : {"{question", "a } b", "{question}}"}) {
    file.spec.prompt = bad;
    expect_error(kExitUser, {"items.jsonl:1", "partner"}, [&] { file.load(); });
  }
  file.spec.prompt = "{qestion}";
  expect_error(kExitUser, {"{qestion}", "the item has: answer, question"}, [&] { file.load(); });
  file.spec.prompt = "{choices}";  // an item without choices
  expect_error(kExitUser, {"{choices}"}, [&] { file.load(); });
}

TEST(TaskErrors, Specs) {
  const auto refuse = [](const std::string& part, const std::function<void(TaskSpec*)>& change) {
    TaskFile file(kGood);
    change(&file.spec);
    expect_error(kExitUser, {"'t'", part}, [&] { file.load(); });
  };
  refuse("no rewards", [](TaskSpec* s) { s->rewards.clear(); });
  refuse("weight", [](TaskSpec* s) { s->weight = 0; });
  refuse("weight of reward", [](TaskSpec* s) { s->rewards[0].weight = -1; });
  refuse("max_new_tokens", [](TaskSpec* s) { s->max_new_tokens = 0; });
  refuse("stop string", [](TaskSpec* s) { s->stop = {""}; });
  refuse("bad regular expression", [](TaskSpec* s) {
    s->rewards = {reward(RewardKind::kRegex)};
    s->rewards[0].pattern = "(open";
  });
}

}  // namespace
}  // namespace svfleet
