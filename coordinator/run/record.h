// What a record of JSON has under a key, whatever it holds: files may be torn, or of other
// versions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace svfleet {

inline int64_t whole_in(const nlohmann::json& record, const char* key, int64_t otherwise) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

// "" where it has no text.
inline std::string text_in(const nlohmann::json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace svfleet
