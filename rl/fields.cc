#include "rl/fields.h"

#include <charconv>

#include "comm/error.h"
#include "rl/ascii.h"

namespace svfleet {

const nlohmann::json* find_field(const nlohmann::json& item, std::string_view path) {
  const nlohmann::json* value = &item;
  for (;;) {
    const size_t dot = path.find('.');
    const std::string_view name = path.substr(0, dot);
    if (value->is_object()) {
      const auto found = value->find(std::string(name));
      if (found == value->end()) return nullptr;
      value = &*found;
    } else if (value->is_array()) {
      size_t index = 0;
      const auto read = std::from_chars(name.data(), name.data() + name.size(), index);
      if (read.ec != std::errc() || read.ptr != name.data() + name.size() || index >= value->size())
        return nullptr;
      value = &(*value)[index];
    } else {
      return nullptr;
    }
    if (dot == std::string_view::npos) return value;
    path.remove_prefix(dot + 1);
  }
}

std::optional<std::string> field_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

std::vector<std::string> field_names(const nlohmann::json& item) {
  std::vector<std::string> names;
  for (const auto& [name, value] : item.items()) {
    if (value.is_object()) {
      for (const auto& inner : value.items()) names.push_back(name + "." + inner.key());
    } else {
      names.push_back(name);
    }
  }
  return names;
}

std::string field_list(const nlohmann::json& item) {
  std::string list;
  for (const std::string& name : field_names(item)) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "no fields" : list;
}

bool is_field_name(std::string_view text) {
  bool first = true;
  for (const char c : text) {
    const bool letter = is_letter(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
    if (first ? !letter : !letter && !is_digit(c) && c != '-' && c != '.') return false;
    first = false;
  }
  return !text.empty() && text.back() != '.';
}

std::string fill_template(
    std::string_view text, const std::string& where,
    const std::function<std::optional<std::string>(const std::string&)>& value) {
  std::string out;
  int open = 0;  // braces that are text and not closed yet
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '{' && c != '}') {
      out += c;
    } else if (c == '}' && open > 0) {
      out += c;
      --open;
    } else if (i + 1 < text.size() && text[i + 1] == c) {
      out += c;
      ++i;
    } else {
      const size_t close = c == '{' ? text.find('}', i) : std::string_view::npos;
      if (close == std::string_view::npos)
        throw user_error(where, ": '", c, "' without its partner; write ", c, c, " for a brace");
      const auto filled = value(std::string(text.substr(i + 1, close - i - 1)));
      if (filled) {
        out += *filled;
        i = close;
      } else {
        out += c;
        ++open;
      }
    }
  }
  return out;
}

}  // namespace svfleet
