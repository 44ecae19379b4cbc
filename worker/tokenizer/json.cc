#include "worker/tokenizer/json.h"

#include <algorithm>

#include "comm/error.h"

namespace svfleet {

void JsonAt::refuse(const std::string& what) const {
  throw user_error(where, ": ", what,
                   "; svfleet reads byte-level BPE (Llama 3, Qwen2.5, SmolLM2, GPT-2) and BPE with "
                   "byte fallback (Llama 2, Mistral)");
}

const Json& JsonAt::object() const {
  if (!value.is_object()) refuse("should be an object");
  return value;
}

bool JsonAt::has(const char* key) const {
  const auto found = object().find(key);
  return found != value.end() && !found->is_null();
}

JsonAt JsonAt::at(const char* key) const {
  const auto found = object().find(key);
  if (found == value.end()) refuse(std::string("'") + key + "' is missing");
  return {*found, where + "." + key};
}

JsonAt JsonAt::at(size_t index) const {
  SVFLEET_CHECK(index < array_size(), index, " of ", array_size());
  return {value[index], where + "[" + std::to_string(index) + "]"};
}

size_t JsonAt::array_size() const {
  if (!value.is_array()) refuse("should be a list");
  return value.size();
}

const std::string& JsonAt::as_text() const {
  if (!value.is_string()) refuse("should be text");
  return value.get_ref<const std::string&>();
}

int JsonAt::as_id() const {
  if (!value.is_number_integer()) refuse("should be a whole number");
  if (value < 0 || value > kMaxTokenId)
    refuse("should be from 0 to " + std::to_string(kMaxTokenId));
  return value.get<int>();
}

std::string JsonAt::text(const char* key) const {
  return at(key).as_text();
}
int JsonAt::number(const char* key) const {
  return at(key).as_id();
}

bool JsonAt::flag(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  const auto found = at(key);
  if (!found.value.is_boolean()) found.refuse("should be true or false");
  return found.value.get<bool>();
}

void JsonAt::only(std::initializer_list<const char*> keys) const {
  for (const auto& [key, unused] : object().items())
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      refuse("'" + key + "' is not supported");
}

Regex read_pattern(const JsonAt& pattern) {
  pattern.only({"String", "Regex"});
  if (pattern.has("Regex") == pattern.has("String"))
    pattern.refuse("should have either 'String' or 'Regex'");
  if (pattern.has("Regex")) {
    const auto regex = pattern.at("Regex");
    return Regex::from_onig(regex.as_text(), regex.where);
  }
  const auto text = pattern.at("String");
  if (text.as_text().empty()) text.refuse("is empty");
  return Regex::literal(text.as_text(), text.where);
}

}  // namespace svfleet
