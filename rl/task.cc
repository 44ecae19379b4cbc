#include "rl/task.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "comm/error.h"
#include "rl/ascii.h"
#include "rl/fields.h"
#include "rl/normalise.h"

namespace svfleet {
namespace {

using nlohmann::json;

// One item of a file, with what its templates and errors need.
struct Row {
  json fields;
  std::string where;  // file:line
  Gold gold;
  std::string question;  // the filled prompt
};

json parse_line(std::string_view line, const std::string& where) {
  try {
    json fields = json::parse(line);
    if (!fields.is_object())
      throw user_error(where, ": not a JSON object but ", fields.type_name(),
                       "; each line is one item such as {\"question\": \"...\"}");
    return fields;
  } catch (const json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 9: reason"
    const std::string text = error.what();
    const size_t reason = text.find(": ");
    throw user_error(where, ": not valid JSON (UTF-8) at byte ", error.byte, ": ",
                     reason == std::string::npos ? text : text.substr(reason + 2));
  }
}

const json* find_choices(const json& item, const std::string& field) {
  const json* found = find_field(item, field);
  return found ? found : find_field(item, "question." + field);
}

std::string need_text(const json* value, const std::string& where, const std::string& what) {
  const auto text = value ? field_text(*value) : std::nullopt;
  if (!text) throw user_error(where, ": ", what, " must be a text");
  return *text;
}

// Labels and texts of the choices; false when the labels are implied.
bool read_choices(const json& choices, const std::string& where, Gold* gold) {
  bool labelled = false;
  if (choices.is_object()) {  // {"label": [...], "text": [...]}
    const json* labels = find_field(choices, "label");
    const json* texts = find_field(choices, "text");
    if (!labels || !texts || !labels->is_array() || !texts->is_array())
      throw user_error(where, ": choices as an object need the lists 'label' and 'text'");
    for (const json& x : *labels) gold->labels.push_back(need_text(&x, where, "a choice's label"));
    for (const json& x : *texts) gold->choices.push_back(need_text(&x, where, "a choice"));
    labelled = true;
  } else if (choices.is_array()) {
    for (const json& choice : choices) {
      if (choice.is_object()) {
        gold->labels.push_back(
            need_text(find_field(choice, "label"), where, "'label' of each choice"));
        gold->choices.push_back(
            need_text(find_field(choice, "text"), where, "'text' of each choice"));
        labelled = true;
      } else {
        gold->choices.push_back(need_text(&choice, where, "each choice"));
      }
    }
    if (!labelled && choices.size() > 26) throw user_error(where, ": more than 26 choices");
    for (size_t i = 0; !labelled && i < choices.size(); ++i)
      gold->labels.emplace_back(1, static_cast<char>('A' + i));
  } else {
    throw user_error(where, ": choices must be a list");
  }
  if (gold->labels.size() != gold->choices.size())
    throw user_error(where, ": ", gold->labels.size(), " labels for ", gold->choices.size(),
                     " choices");
  return labelled;
}

// An answer given as an index from 0 (where labels are implied), in another case, or as the text of
// a choice becomes that choice's label.
void name_by_label(const json& answer, bool labelled, Gold* gold) {
  const auto& labels = gold->labels;
  if (!labelled && answer.is_number_integer()) {
    const auto index = answer.get<int64_t>();
    if (index >= 0 && index < static_cast<int64_t>(labels.size())) gold->answer = labels[index];
    return;
  }
  if (std::find(labels.begin(), labels.end(), gold->answer) != labels.end()) return;
  for (const std::string& label : labels) {
    if (normalise(gold->answer, true) != lower_case(label)) continue;
    gold->answer = label;
    return;
  }
  const auto text = std::find(gold->choices.begin(), gold->choices.end(), gold->answer);
  if (text != gold->choices.end()) gold->answer = labels[text - gold->choices.begin()];
}

Gold read_gold(const TaskSpec& spec, const json& item, const std::string& where) {
  const bool needed = std::any_of(spec.rewards.begin(), spec.rewards.end(), needs_gold);
  Gold gold;
  bool labelled = false;
  const json* choices = find_choices(item, spec.choices);
  const bool choosing = std::any_of(
      spec.rewards.begin(), spec.rewards.end(),
      [](const RewardSpec& reward) { return reward.kind == RewardKind::kMultipleChoice; });
  if (choosing && !choices)
    throw user_error(where, ": no field '", spec.choices, "' or 'question.", spec.choices,
                     "' with the choices; the item has: ", field_names(item));
  // Other rewards may have a field of that name which is no list of choices.
  if (choosing || (choices && choices->is_array())) labelled = read_choices(*choices, where, &gold);
  const json* answer = find_field(item, spec.answer);
  if (!answer) {
    if (!needed) return gold;
    throw user_error(where, ": no field '", spec.answer,
                     "' with the answer; the item has: ", field_names(item));
  }
  if (const auto text = field_text(*answer)) {
    gold.answer = *text;
  } else if (needed) {
    throw user_error(where, ": the answer '", spec.answer, "' is ", answer->type_name(),
                     "; it must be a text or a number");
  }
  if (choosing) name_by_label(*answer, labelled, &gold);
  for (const RewardSpec& reward : spec.rewards) {
    const std::string problem = gold_problem(reward, gold);
    if (!problem.empty()) throw user_error(where, ": ", problem);
  }
  return gold;
}

std::string choice_lines(const Gold& gold) {
  std::string lines;
  for (size_t i = 0; i < gold.labels.size(); ++i)
    lines += (i ? "\n" : "") + gold.labels[i] + ". " + gold.choices[i];
  return lines;
}

// `gold_answer`: {answer} is the gold, whatever the field is called.
std::string fill(const std::string& text, const char* what, const Row& row, bool gold_answer) {
  return fill_template(text, row.where + ": " + what, [&](const std::string& name) -> std::string {
    if (name == "choices" && !row.gold.choices.empty()) return choice_lines(row.gold);
    if (name == "answer" && gold_answer) return row.gold.answer;
    const json* value = find_field(row.fields, name);
    if (!value)
      throw user_error(row.where, ": ", what, " asks for {", name,
                       "}; the item has: ", field_names(row.fields));
    const auto filled = field_text(*value);
    if (!filled)
      throw user_error(row.where, ": ", what, " asks for {", name, "}, which is ",
                       value->type_name(), "; only texts and numbers can stand in a prompt");
    return *filled;
  });
}

// The items of a JSONL file in order, at most `limit` (0 = all). Blank lines are passed over.
void read_rows(const TaskSpec& spec, const std::string& path, int64_t limit,
               const std::function<void(int64_t, Row)>& each) {
  const std::string bytes = read_file(path);
  std::string_view rest = bytes;
  int64_t found = 0;
  for (int64_t line = 0; !rest.empty() && (limit == 0 || found < limit); ++line) {
    const size_t end = rest.find('\n');
    const std::string_view text = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (std::all_of(text.begin(), text.end(), is_space)) continue;
    Row row;
    row.where = path + ":" + std::to_string(line + 1);
    row.fields = parse_line(text, row.where);
    row.gold = read_gold(spec, row.fields, row.where);
    row.question = fill(spec.prompt, "the prompt", row, false);
    each(line, std::move(row));
    ++found;
  }
  if (found == 0)
    throw user_error("task '", spec.name, "': '", path,
                     "' holds no items; a task file has one JSON object per line");
}

struct Example {
  std::string question, answer;
};

std::vector<Example> read_examples(const TaskSpec& spec) {
  std::vector<Example> examples;
  if (spec.few_shot.empty()) return examples;
  const std::string answer = spec.few_shot_answer.empty() ? "{answer}" : spec.few_shot_answer;
  read_rows(spec, spec.few_shot, spec.few_shot_count, [&](int64_t, const Row& row) {
    examples.push_back({row.question, fill(answer, "the few-shot answer", row, true)});
  });
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
}

// File names are left out: the same data elsewhere is the same task.
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
    hasher.text(item.gold.answer).number(static_cast<int64_t>(item.gold.labels.size()));
    for (size_t i = 0; i < item.gold.labels.size(); ++i)
      hasher.text(item.gold.labels[i]).text(item.gold.choices[i]);
  }
  return hasher.hex();
}

}  // namespace

Task load_task(const TaskSpec& spec, const std::string& split, int64_t limit) {
  SVFLEET_CHECK(split == "train" || split == "validation" || split == "test", "split ", split);
  check_spec(spec);
  const std::string& path = split == "train"        ? spec.train
                            : split == "validation" ? spec.validation
                                                    : spec.test;
  if (path.empty())
    throw user_error("task '", spec.name, "' has no ", split, " split; give its JSONL file as '",
                     split, "'");
  Task task;
  task.spec = spec;
  const std::vector<Example> examples = read_examples(spec);
  read_rows(spec, path, limit, [&](int64_t line, Row row) {
    task.items.push_back({line, make_messages(spec, examples, row.question), std::move(row.gold)});
  });
  task.content_hash = content_hash(task);
  return task;
}

}  // namespace svfleet
