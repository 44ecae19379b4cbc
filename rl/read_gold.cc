#include "rl/read_gold.h"

#include <algorithm>
#include <set>

#include "comm/counted.h"
#include "comm/error.h"
#include "rl/control_chars.h"
#include "rl/fields.h"
#include "rl/normalise.h"

namespace svfleet {

using nlohmann::json;

const std::string& readable(const std::string& text, const std::string& where,
                            const std::string& what) {
  const std::string problem = control_problem(text, WrittenIn::kJson);
  if (!problem.empty()) throw user_error(where, ": ", what, " ", problem);
  return text;
}

namespace {

const json* find_choices(const json& item, const std::string& field) {
  const json* found = find_field(item, field);
  return found ? found : find_field(item, "question." + field);
}

std::string need_text(const json* value, const std::string& where, const std::string& what) {
  const auto text = value ? field_text(*value) : std::nullopt;
  if (!text) throw user_error(where, ": ", what, " must be a text");
  return readable(*text, where, what);
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
    throw user_error(where, ": ", counted(int64_t(gold->labels.size()), "label"), " for ",
                     counted(int64_t(gold->choices.size()), "choice"));
  std::set<std::string> seen;
  for (const std::string& label : gold->labels) {
    if (bare_label(label).empty()) throw user_error(where, ": a choice's label is empty");
    if (!seen.insert(bare_label(label)).second)
      throw user_error(where, ": two choices have the label '", label, "'; a reply that names it ",
                       "could mean either");
  }
  return labelled;
}

// A template that lists the choices.
bool shows_choices(const TaskSpec& spec) {
  for (const std::string* text : {&spec.prompt, &spec.few_shot_answer})
    if (text->find("{choices}") != std::string::npos) return true;
  return false;
}

// Where nobody asks for choices, a list of that name may be something else: then there are none.
void read_if_choices(const json& choices, const std::string& where, Gold* gold) {
  try {
    Gold found;
    read_choices(choices, where, &found);
    *gold = std::move(found);
  } catch (const Error&) {
  }
}

// The places at which `text` stands.
std::vector<size_t> places_of(const std::string& text, const std::vector<std::string>& texts) {
  std::vector<size_t> places;
  for (size_t i = 0; i < texts.size(); ++i)
    if (texts[i] == text) places.push_back(i);
  return places;
}

[[noreturn]] void refuse_ambiguous(const std::string& where, const std::string& text,
                                   const std::string& one, const std::string& other) {
  throw user_error(
      where, ": the answer '", text, "' may mean two choices: ", one, ", or ", other,
      "; give choices with labels, [{\"label\": ..., \"text\": ...}], and the label as ",
      "the answer");
}

// An answer given as an index from 0 (where labels are implied), in another case, or as the text of
// a choice becomes that choice's label. Labels that the item gives come before texts; of implied
// ones nobody knows which was meant.
std::string named_by_label(const json& answer, const std::string& text, bool labelled,
                           const Gold& gold, const std::string& where) {
  const auto& labels = gold.labels;
  const auto choice = [&](size_t i) {
    return "choice " + labels[i] + ", '" + gold.choices[i] + "'";
  };
  const std::vector<size_t> as_text = places_of(text, gold.choices);
  if (!labelled && answer.is_number_integer()) {
    const auto index = answer.get<int64_t>();
    if (index >= 0 && index < static_cast<int64_t>(labels.size())) {
      for (const size_t i : as_text)
        if (i != static_cast<size_t>(index))
          refuse_ambiguous(where, text, "as an index from 0 " + choice(size_t(index)),
                           "as a text " + choice(i));
      return labels[size_t(index)];
    }
  }
  for (size_t k = 0; k < labels.size(); ++k) {
    if (bare_label(text) != bare_label(labels[k])) continue;
    for (const size_t i : as_text)
      if (!labelled && i != k)
        refuse_ambiguous(where, text, "as a label " + choice(k), "as a text " + choice(i));
    return labels[k];
  }
  if (as_text.size() > 1) refuse_ambiguous(where, text, choice(as_text[0]), choice(as_text[1]));
  return as_text.empty() ? text : labels[as_text[0]];
}

}  // namespace

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
                     "' with the choices; the item has: ", field_list(item));
  // A text of that name stands in a prompt as any field.
  const bool several_choices = choices && (choices->is_array() || choices->is_object());
  if (choosing || (several_choices && shows_choices(spec)))
    labelled = read_choices(*choices, where, &gold);
  else if (choices && choices->is_array())
    read_if_choices(*choices, where, &gold);
  const json* answer = find_field(item, spec.answer);
  if (!answer) {
    if (!needed) return gold;
    throw user_error(where, ": no field '", spec.answer,
                     "' with the answer; the item has: ", field_list(item));
  }
  const std::string what = "the answer '" + spec.answer + "'";
  const json several = answer->is_array() ? *answer : json::array({*answer});
  std::vector<std::string> answers;
  for (const json& one : several) {
    const auto text = field_text(one);
    if (!text && needed)
      throw user_error(where, ": ", what, answer->is_array() ? " holds " : " is ", one.type_name(),
                       "; it must be a text or a number, or a list of them");
    if (!text) return gold;
    readable(*text, where, what);
    answers.push_back(choosing ? named_by_label(one, *text, labelled, gold, where) : *text);
  }
  if (answers.empty()) {
    if (!needed) return gold;
    throw user_error(where, ": ", what, " is an empty list; give at least one right answer");
  }
  gold.answer = answers[0];
  gold.also.assign(answers.begin() + 1, answers.end());
  for (const RewardSpec& reward : spec.rewards) {
    const std::string problem = gold_problem(reward, gold);
    if (!problem.empty()) throw user_error(where, ": ", problem);
  }
  return gold;
}

}  // namespace svfleet
