#include "rl/task.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "rl/ascii.h"
#include "rl/fields.h"
#include "rl/item_file.h"
#include "rl/item_json.h"
#include "rl/item_template.h"
#include "rl/read_gold.h"

namespace svfleet {
namespace {

using nlohmann::json;

// System message and prefill are the same for all items: a field's name in braces would be text,
// which nobody means. Behind a command of LaTeX (\boxed{answer}) it is.
void refuse_field(const TaskSpec& spec, const std::string& what, const std::string& text,
                  const Row& row) {
  for (size_t i = text.find('{'); i != std::string::npos; i = text.find('{', i + 1)) {
    size_t word = i;
    while (word > 0 && is_letter(text[word - 1])) --word;
    if (word < i && word > 0 && text[word - 1] == '\\') continue;
    const std::string name = text.substr(i + 1, text.find('}', i) - i - 1);
    const bool is_choices = name == "choices" && !row.gold.choices.empty();
    if (text.find('}', i) == std::string::npos || !(is_choices || find_field(row.fields, name)))
      continue;
    throw user_error(row.where, ": ", what, " of task '", spec.name, "'",
                     spec.file.empty() ? "" : " ('" + spec.file + "')", " has {", name,
                     "}, a field of the item, but fields are filled into prompt and ",
                     "few_shot.answer alone; write it there, or other brackets if it is text");
  }
}

// The items of a JSONL file in order, at most `limit` (0 = all). Blank lines are passed over.
void read_rows(const TaskSpec& spec, const std::string& path, int64_t limit,
               const std::function<void(int64_t, Row)>& each) {
  const std::string bytes = read_file(path);
  refuse_lfs_pointer(path, bytes);
  refuse_other_format(path, bytes);
  std::string_view rest = bytes;
  int64_t found = 0;
  ItemTemplate prompt(spec.prompt, "the prompt", spec.prompt_place, false);
  for (int64_t line = 0; !rest.empty() && (limit == 0 || found < limit); ++line) {
    const size_t end = rest.find('\n');
    const std::string_view text = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (std::all_of(text.begin(), text.end(), is_space)) continue;
    Row row;
    row.where = path + ":" + std::to_string(line + 1);
    row.fields = parse_item(text, row.where);
    row.gold = read_gold(spec, row.fields, row.where);
    row.question = prompt.fill(row);
    refuse_field(spec, "system", spec.system, row);
    refuse_field(spec, "prefill", spec.prefill, row);
    if (std::all_of(row.question.begin(), row.question.end(), is_space))
      throw user_error(row.where, ": ", prompt.what(),
                       " is empty: nothing is asked; mend or remove ", "the item");
    each(line, std::move(row));
    ++found;
  }
  if (found == 0)
    throw user_error("task '", spec.name, "': '", path,
                     "' holds no items; a task file has one JSON object per line");
  prompt.check_used(found, path);
}

struct Example {
  std::string question, answer;
};

std::vector<Example> read_examples(const TaskSpec& spec) {
  std::vector<Example> examples;
  if (spec.few_shot.empty()) return examples;
  const std::string text = spec.few_shot_answer.empty() ? "{answer}" : spec.few_shot_answer;
  ItemTemplate answer(text, "few_shot.answer", "", true);
  read_rows(spec, spec.few_shot, spec.few_shot_count, [&](int64_t, const Row& row) {
    examples.push_back({row.question, answer.fill(row)});
  });
  answer.check_used(static_cast<int64_t>(examples.size()), spec.few_shot);
  if (static_cast<int>(examples.size()) < spec.few_shot_count)
    throw user_error("task '", spec.name, "': '", spec.few_shot, "' has ", examples.size(),
                     " solved examples, fewer than few_shot.count ", spec.few_shot_count);
  return examples;
}

std::vector<Message> make_messages(const TaskSpec& spec, const std::vector<Example>& examples,
                                   const std::string& question) {
  std::vector<Message> messages;
  if (spec.has_system) messages.push_back({"system", spec.system});
  for (const Example& example : examples) {
    if (example.question == question) continue;
    messages.push_back({"user", example.question});
    messages.push_back({"assistant", example.answer});
  }
  messages.push_back({"user", question});
  if (spec.chat) return messages;
  std::string text;
  for (const Message& message : messages) {
    if (message.role == "assistant") {
      if (!text.empty() && !is_space(text.back())) text += ' ';
    } else if (!text.empty()) {
      text += "\n\n";
    }
    text += message.content;
  }
  return {{"user", text}};
}

void check_spec(const TaskSpec& spec) {
  const auto wrong = [&](const std::string& what) {
    return user_error("task '", spec.name, "': ", what);
  };
  if (spec.rewards.empty()) throw wrong("no rewards; name at least one, such as last_number");
  for (const RewardSpec& reward : spec.rewards)
    if (const std::string problem = reward_problem(reward); !problem.empty()) throw wrong(problem);
  if (spec.max_new_tokens < 1) throw wrong("max_new_tokens must be at least 1");
  if (!(spec.weight > 0)) throw wrong("weight must be above 0");
  if (spec.few_shot_count < 0) throw wrong("few_shot.count must not be negative");
  for (const std::string& stop : spec.stop)
    if (stop.empty()) throw wrong("a stop string is empty");
  for (const std::string& token : spec.stop_tokens)
    if (token.empty()) throw wrong("a stop token is empty");
}

std::string read_cluster(const Row& row) {
  const json* found = find_field(row.fields, "cluster");
  if (!found || found->is_null()) return "";
  const auto text = field_text(*found);
  if (!text || text->empty())
    throw user_error(row.where, ": 'cluster' is ", text ? "empty" : found->type_name(),
                     "; it must be a text or a number, the same for all wordings of one item");
  return *text;
}

// File names are left out: the same data elsewhere is the same task. So are clusters, which only
// say how sure one may be of a result.
std::string content_hash(const Task& task) {
  const TaskSpec& spec = task.spec;
  const auto bits = [](double x) { return json(x).dump(); };
  Hasher hasher;
  hasher.text("svfleet-task-1").text(spec.prompt).text(spec.answer);
  hasher.text(spec.choices).number(spec.has_system).text(spec.system).text(spec.few_shot_answer);
  hasher.text(spec.prefill).number(spec.chat).number(spec.max_new_tokens);
  hasher.number(static_cast<int>(spec.truncated)).text(bits(spec.weight));
  hasher.number(static_cast<int64_t>(spec.stop.size()));
  for (const std::string& stop : spec.stop) hasher.text(stop);
  if (!spec.stop_tokens.empty()) {  // the data of before had none
    hasher.text("stop_tokens").number(static_cast<int64_t>(spec.stop_tokens.size()));
    for (const std::string& token : spec.stop_tokens) hasher.text(token);
  }
  hasher.number(static_cast<int64_t>(spec.rewards.size()));
  for (const RewardSpec& reward : spec.rewards) {
    hasher.text(reward_name(reward.kind)).text(bits(reward.weight)).text(reward.pattern);
    hasher.number(reward.match_only).number(reward.ignore_case).text(bits(reward.tolerance));
    hasher.number(reward.seed);
  }
  hasher.number(static_cast<int64_t>(task.items.size()));
  for (const Item& item : task.items) {
    hasher.number(item.index).number(static_cast<int64_t>(item.messages.size()));
    for (const Message& message : item.messages) hasher.text(message.role).text(message.content);
    hasher.text(item.gold.answer);
    for (const std::string& answer : item.gold.also) hasher.text("also").text(answer);
    hasher.number(static_cast<int64_t>(item.gold.labels.size()));
    for (size_t i = 0; i < item.gold.labels.size(); ++i)
      hasher.text(item.gold.labels[i]).text(item.gold.choices[i]);
  }
  return hasher.hex();
}

}  // namespace

const std::string& split_file(const TaskSpec& spec, const std::string& split) {
  SVFLEET_CHECK(split == "train" || split == "validation" || split == "test", "split ", split);
  return split == "train" ? spec.train : split == "validation" ? spec.validation : spec.test;
}

Task load_task(const TaskSpec& spec, const std::string& split, int64_t limit) {
  check_spec(spec);
  const std::string& path = split_file(spec, split);
  if (path.empty())
    throw user_error("task '", spec.name, "' has no ", split, " split; give its JSONL file as '",
                     split, "'");
  Task task;
  task.spec = spec;
  const std::vector<Example> examples = read_examples(spec);
  read_rows(spec, path, limit, [&](int64_t line, Row row) {
    std::string cluster = read_cluster(row);
    task.items.push_back({line, make_messages(spec, examples, row.question), row.question,
                          std::move(row.gold), std::move(cluster)});
  });
  task.content_hash = content_hash(task);
  return task;
}

}  // namespace svfleet
