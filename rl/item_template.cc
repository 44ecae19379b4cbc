#include "rl/item_template.h"

#include <optional>

#include "comm/error.h"
#include "rl/ascii.h"
#include "rl/fields.h"
#include "rl/nearest.h"
#include "rl/read_gold.h"

namespace svfleet {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::string choice_lines(const Gold& gold) {
  std::string lines;
  for (size_t i = 0; i < gold.labels.size(); ++i)
    lines += (i ? "\n" : "") + gold.labels[i] + ". " + gold.choices[i];
  return lines;
}

}  // namespace

ItemTemplate::ItemTemplate(std::string text, const std::string& what, const std::string& place,
                           bool gold_answer)
    : text_(std::move(text)),
      what_(place.empty() ? what : what + " (" + place + ")"),
      gold_answer_(gold_answer) {}

// {{ question }}, as other programs write a field, would be the text "{ question }".
void ItemTemplate::refuse_double_braces(const Row& row) const {
  const std::string_view text = text_;
  for (size_t i = text.find("{{"); i != std::string_view::npos; i = text.find("{{", i + 2)) {
    const size_t close = text.find("}}", i);
    if (close == std::string_view::npos) return;
    const std::string_view inside = text.substr(i + 2, close - i - 2), name = trimmed(inside);
    if (name.size() < inside.size() && find_field(row.fields, name))
      throw user_error(row.where, ": ", what_, " has {{", inside, "}}, which is text; write {",
                       name, "} for the field");
  }
}

void ItemTemplate::refuse_name(const std::string& name, const Row& row) const {
  std::vector<std::string> known = field_names(row.fields);
  if (!row.gold.choices.empty()) known.push_back("choices");
  if (gold_answer_) known.push_back("answer");
  const std::string near = nearest(name, known);
  throw user_error(row.where, ": ", what_, " asks for {", name, "}",
                   near.empty() ? "" : ", did you mean {" + near + "}?",
                   "; the item has: ", field_list(row.fields), "; for the text {", name,
                   "} write {{", name, "}}");
}

std::string ItemTemplate::fill(const Row& row) {
  refuse_double_braces(row);
  const auto value = [&](const std::string& name) -> std::optional<std::string> {
    const bool choices = name == "choices" && !row.gold.choices.empty();
    const bool answer = name == "answer" && gold_answer_;
    if (choices || answer) {
      used_ = true;
      return choices ? choice_lines(row.gold) : row.gold.answer;
    }
    const nlohmann::json* found = find_field(row.fields, name);
    if (!found) {
      const std::string inner(trimmed(name));
      if (is_field_name(name) || (inner != name && find_field(row.fields, inner)))
        refuse_name(name, row);
      return std::nullopt;
    }
    const auto filled = field_text(*found);
    if (!filled)
      throw user_error(row.where, ": ", what_, " asks for {", name, "}, which is ",
                       found->type_name(), "; only texts and numbers can stand in a prompt");
    used_ = true;
    return readable(*filled, row.where, "'" + name + "'");
  };
  return fill_template(text_, row.where + ": " + what_, value);
}

void ItemTemplate::check_used(int64_t items, const std::string& path) const {
  if (used_ || items < 2) return;
  throw user_error(path, ": ", what_, " has no field in it, so it is the same for all ", items,
                   " items; write {question} for the item's question");
}

}  // namespace svfleet
