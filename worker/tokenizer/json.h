// Reading tokenizer.json strictly: whatever is not understood is an error that names it.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/tokenizer/pretokenize_regex.h"

namespace svfleet {

using Json = nlohmann::json;

// A value of the file and the way to it, for errors.
struct JsonAt {
  const Json& value;
  std::string where;

  bool has(const char* key) const;  // present and not null
  JsonAt at(const char* key) const;
  JsonAt at(size_t index) const;
  std::string text(const char* key) const;
  bool flag(const char* key, bool otherwise) const;
  int number(const char* key) const;
  std::string type() const { return text("type"); }
  // Every key must be one of these.
  void only(std::initializer_list<const char*> keys) const;
  size_t array_size() const;
  const Json& object() const;
  int as_id() const;
  const std::string& as_text() const;
  [[noreturn]] void refuse(const std::string& what) const;
};

// {"String": text} or {"Regex": pattern}.
Regex read_pattern(const JsonAt& pattern);

// A file cannot make us overflow the stack.
constexpr int kMaxNesting = 16;
constexpr int kMaxTokenId = 1 << 24;

}  // namespace svfleet
