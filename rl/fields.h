// Fields of a JSON item by path, and the templates that name them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace svfleet {

// The value at `path` ("question.stem"; a number indexes a list), or null.
const nlohmann::json* find_field(const nlohmann::json& item, std::string_view path);
// What a text, number or truth value reads as in a prompt; nothing for lists, objects and null.
std::optional<std::string> field_text(const nlohmann::json& value);
// "question.stem, question.choices, answerKey": what find_field would find.
std::string field_names(const nlohmann::json& item);

// Replaces each {name} by value(name); {{ and }} are braces. Error(kExitUser) with `where` in front
// for a brace without its partner.
std::string fill_template(std::string_view text, const std::string& where,
                          const std::function<std::string(const std::string&)>& value);

}  // namespace svfleet
