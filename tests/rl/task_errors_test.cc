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
      {"{\"question\": \"a\", \"answer\": 1e400}",
       {"items.jsonl:2: the number 1e400", "in quotes"}},
      {"{\"question\": \"a\", \"answer\": 1e-400}", {"items.jsonl:2", "'1e-400' is not a number"}},
      {"{\"question\": \"\", \"answer\": \"2\"}", {"items.jsonl:2", "the prompt is empty"}},
      {"{\"question\": \" \\n\", \"answer\": \"2\"}", {"items.jsonl:2", "the prompt is empty"}},
      {"{\"question\": \"a\", \"question\": \"b\", \"answer\": \"2\"}",
       {"'question' is there twice"}},
      {R"({"question": "\boxed{x}", "answer": "2"})",
       {"items.jsonl:2: 'question'", "U+0008", "'oxed"}},
      {R"({"question": "1 \frac{1}{2}", "answer": "2"})",
       {"items.jsonl:2", "U+000C", "backslashes"}},
      {R"({"question": "2 \times 3", "answer": "2"})", {"items.jsonl:2", "U+0009 before 'imes'"}},
      {R"({"question": "a", "answer": "\frac12"})", {"items.jsonl:2: the answer", "U+000C"}},
      {R"({"question": "a", "answer": []})", {"items.jsonl:2", "empty list"}},
      {R"({"question": "a", "answer": ["2", null]})", {"items.jsonl:2", "holds null"}},
      {R"({"question": "a", "answer": ["2", "two"]})", {"items.jsonl:2", "'two' is not a number"}},
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
      {R"({"question": "a", "answer": "A", "choices": ["tin"]})",
       {"items.jsonl:1: the item has one choice alone, 'tin'", "two or more"}},
      {R"({"question": "a", "answer": "C", "choices": ["x", "y"]})", {"items.jsonl:1", "'C'"}},
      {R"({"question": "a", "answer": 2, "choices": ["x", "y"]})", {"items.jsonl:1", "'2'"}},
      {R"({"question": "a", "answer": "A", "choices": [{"text": "x"}]})", {"'label'"}},
      {R"({"question": "a", "answer": "A", "choices": [{"text": "x", "label": "A"}, "y"]})",
       {"1 label for 2 choices"}},
      {R"({"question": "a", "answer": "A", "choices": {"text": ["x"], "label": ["A", "B"]}})",
       {"2 labels for 1 choice"}},
      {R"({"question": "a", "answer": "A", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "a"}]})",
       {"items.jsonl:1: two choices have the label 'a'"}},
      {R"({"question": "a", "answer": "A", "choices": {"text": ["x"], "label": [""]}})",
       {"items.jsonl:1", "label is empty"}},
      {R"({"question": "a", "answer": "A", "choices": []})", {"items.jsonl:1", "no choices"}},
      // What may mean two of them.
      {R"({"question": "a", "answer": 1, "choices": ["1", "0"]})",
       {"items.jsonl:1: the answer '1' may mean two choices: as an index from 0 choice B, '0', or "
        "as "
        "a text choice A, '1'; give choices with labels"}},
      {R"({"question": "a", "answer": "B", "choices": ["B", "tin"]})",
       {"items.jsonl:1: the answer 'B' may mean two choices: as a label choice B, 'tin', or as a "
        "text "
        "choice A, 'B'"}},
      {R"({"question": "a", "answer": "x", "choices": ["x", "y", "x"]})",
       {"items.jsonl:1: the answer 'x' may mean two choices: choice A, 'x', or choice C, 'x'"}},
      {R"({"question": "a", "answer": "x", "choices": {"label": ["1", "2"], "text": ["x", "x"]}})",
       {"items.jsonl:1: the answer 'x' may mean two choices"}},
  };
  for (const Case& c : cases) {
    const TaskFile file(c.line + "\n", RewardKind::kMultipleChoice);
    expect_parts(c.parts, file);
  }
}

// Answers that look alike and mean one choice.
TEST(TaskErrors, ChoicesThatMeanOne) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"question": "a", "answer": 1, "choices": ["0", "1"]})", "B"},
      {R"({"question": "a", "answer": 7, "choices": ["5", "7"]})", "B"},  // no index
      {R"({"question": "a", "answer": "1", "choices": ["1", "0"]})", "A"},
      {R"({"question": "a", "answer": 0, "choices": ["x", "x"]})", "A"},
      {R"({"question": "a", "answer": "B", "choices": ["x", "B"]})", "B"},
      // Labels that the item gives come first.
      {R"({"question": "a", "answer": "2", "choices": {"label": ["1", "2"], "text": ["2", "3"]}})",
       "2"}};
  for (const auto& [line, label] : cases)
    EXPECT_EQ(
        TaskFile(std::string(line) + "\n", RewardKind::kMultipleChoice).load().items[0].gold.answer,
        label)
        << line;
}

// What people have where JSONL is wanted.
TEST(TaskErrors, FilesOfOtherKinds) {
  const Case cases[] = {
      {"\x1f\x8b\x08", {"items.jsonl' is compressed (gzip)", "gunzip", "one JSON object per line"}},
      {"PAR1\x15\x04", {"items.jsonl' is a Parquet file", "to_json"}},
      {"\xff\xfe{", {"items.jsonl' is UTF-16", "UTF-8"}},
      {"[\n {\"question\": \"a\", \"answer\": \"2\"}\n]",
       {"items.jsonl:1: a JSON list", "jq -c '.[]'"}},
      {"\xef\xbb\xbf[{\"question\": \"a\"}]", {"items.jsonl:1: a JSON list"}},
      {"{\n \"question\": \"a\"\n}", {"items.jsonl:1: an item over several lines", "jq -c ."}},
      {"question,answer\na,2", {"items.jsonl:1: not valid JSON", "each line is one item such as"}}};
  for (const Case& c : cases) {
    const TaskFile file(c.line + "\n");
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
  expect_error(kExitUser, {"did you mean {question}?"}, [&] {
    file.spec.prompt_place = "run.yaml:7";
    file.spec.prompt = "{qestion}";
    file.load();
  });
  // As other programs write a field.
  for (const char* jinja : {"{{ question }}", "{question} {{ answer }}", "{ question }"}) {
    file.spec.prompt = jinja;
    expect_error(kExitUser, {"items.jsonl:1", "run.yaml:7"}, [&] { file.load(); });
  }
  file.spec.prompt = "{choices}";  // an item without choices
  expect_error(kExitUser, {"{choices}"}, [&] { file.load(); });
}

TEST(TaskErrors, FieldsWhereNoneIsFilledIn) {
  const std::string item = "{\"question\": \"1+1?\", \"answer\": \"2\", \"lang\": \"fr\"}\n";
  TaskFile file(item + item);
  file.spec.has_system = true;
  for (std::string TaskSpec::*text : {&TaskSpec::system, &TaskSpec::prefill}) {
    file.spec.*text = "Answer in {lang}:";
    expect_parts({"items.jsonl:1: ", text == &TaskSpec::system ? "system of" : "prefill of",
                  "has {lang}, a field of the item", "write it there"},
                 file);
    // Braces that are text.
    for (const char* plain :
         {"{", "{}", "as {\"answer\": 3}", "in \\boxed{answer}", "{other}", "lang}"}) {
      file.spec.*text = plain;
      EXPECT_EQ(file.load().items.size(), 2u) << plain;
    }
  }
}

TEST(TaskErrors, APromptThatIsTheSameForAllItems) {
  TaskFile file(kGood + kGood);
  file.spec.prompt_place = "run.yaml:7";
  for (const char* constant : {"Say something", "{{question}}", "\\boxed{}"}) {
    file.spec.prompt = constant;
    expect_error(kExitUser, {"items.jsonl", "run.yaml:7", "no field", "2 items"},
                 [&] { file.load(); });
  }
  EXPECT_EQ(file.load(1).items.size(), 1u);
  TaskFile solved(kGood);
  solved.spec.few_shot = solved.add("solved.jsonl", kGood + kGood);
  solved.spec.few_shot_answer = "{{answer}}";
  expect_error(kExitUser, {"solved.jsonl", "few_shot.answer", "no field"}, [&] { solved.load(); });
}

TEST(TaskErrors, AGitLfsPointer) {
  const TaskFile file("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n");
  expect_error(kExitUser, {"items.jsonl' is a Git LFS pointer", "git lfs pull"},
               [&] { file.load(); });
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
