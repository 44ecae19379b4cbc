// Start here: a task is prompts, what counts as right, and when a reply ends. Read from JSONL files
// as described by a TaskSpec; knows nothing of YAML or models.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rl/reward.h"

namespace svfleet {

enum class TruncatedRule { kWrong, kMask, kScore };  // a reply cut by the length limit

struct TaskSpec {
  std::string name;
  std::string file;  // the task file that it was read from; empty = the run's own file
  // JSONL files by split; empty = the task has no such split.
  std::string train, validation, test;
  // User message; {field} is replaced by that field of the item ({{ and }} are braces, and braces
  // round what is no name are text). Choices of a multiple-choice item: {choices} gives one
  // "LABEL. text" line each.
  std::string prompt = "{question}";
  std::string prompt_place;       // where the prompt was written, as "run.yaml:12"; for errors
  std::string answer = "answer";  // the field that holds the gold answer; a.b reaches inside
  // The field that holds the choices of a multiple-choice item, also looked for under `question`:
  // [{"label", "text"}], ["..."] (labels A, B, ... implied), or {"label": [...], "text": [...]}.
  std::string choices = "choices";
  std::string system;  // system message; `has_system` false = the template's default
  bool has_system = false;
  std::string few_shot;             // JSONL file of solved examples, put before the question
  int few_shot_count = 0;           // the first so many of the file; 0 = all
  std::string few_shot_answer;      // template of the solved answers; empty = "{answer}", the gold
  std::string prefill;              // the start of the model's answer
  bool chat = true;                 // false: the prompt is plain text, no chat template
  std::vector<RewardSpec> rewards;  // summed by weight
  std::vector<std::string> stop;    // stop strings, besides the model's stop tokens
  // More stop tokens: texts of tokens, or ids.
  std::vector<std::string> stop_tokens;
  int max_new_tokens = 64;
  TruncatedRule truncated = TruncatedRule::kWrong;
  double weight = 1;  // share when several tasks are mixed
};

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

struct Item {
  int64_t index = 0;              // line in its file, from 0
  std::vector<Message> messages;  // what is sent (few-shot examples as turns); one for chat: false
  std::string question;           // of it, what is this item's own
  Gold gold;
  // What the field `cluster` says: items of one cluster are wordings of one, so not independent.
  // Empty: a cluster of its own.
  std::string cluster = {};
};

struct Task {
  TaskSpec spec;
  std::vector<Item> items;   // of one split
  std::string content_hash;  // of spec and items: a run's identity includes its data
};

// The JSONL file of a split: "train", "validation" or "test"; empty = the task has none.
const std::string& split_file(const TaskSpec& spec, const std::string& split);

// Reads one split, at most `limit` items (0 = all). Errors are
// Error(kExitUser) with file:line: invalid JSON or UTF-8, missing field, empty file or prompt, gold
// that the reward cannot parse, control characters, a prompt that is the same for all items. An
// example that asks an item's own question is left out before that item. With chat: false an item
// is one message: system, solved examples and question as paragraphs.
Task load_task(const TaskSpec& spec, const std::string& split, int64_t limit = 0);

// What the n-th prompt of training is: the tasks are interleaved by weight, each task's items in an
// order that is a permutation keyed by (seed, task, epoch). Pure; the same on every rank.
struct PromptPick {
  int task = 0;
  int64_t item = 0;
  bool operator==(const PromptPick&) const = default;
};
class PromptOrder {
 public:
  PromptOrder(uint64_t seed, std::vector<int64_t> items_per_task, std::vector<double> weights);
  // Picks for positions [first, first + count).
  std::vector<PromptPick> picks(int64_t first, int64_t count) const;

 private:
  uint64_t seed_;
  std::vector<int64_t> sizes_;
  std::vector<double> weights_;
};

}  // namespace svfleet
