// Fields of a JSON item by path, and the templates that name them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// The value at `path` ("question.stem"; a number indexes a list), or null.
const nlohmann::json* find_field(const nlohmann::json& item, std::string_view path);
// What a text, number or truth value reads as in a prompt; nothing for lists, objects and null.
std::optional<std::string> field_text(const nlohmann::json& value);
// "question.stem", "question.choices", "answerKey": what find_field would find.
std::vector<std::string> field_names(const nlohmann::json& item);
// The same in one line: "question.stem, question.choices, answerKey".
std::string field_list(const nlohmann::json& item);

// Replaces each {name} by value(name), or leaves it where there is no value: braces round what is
// no name are text. {{ and }} are braces. Error(kExitUser) with `where` in front for a brace
// without its partner.
std::string fill_template(
    std::string_view text, const std::string& where,
    const std::function<std::optional<std::string>(const std::string&)>& value);

// Whether a field could have this name, so that braces round it are not there as text: letters,
// digits, _ and -, with dots between, and no digit first.
bool is_field_name(std::string_view text);

}  // namespace svfleet
