// Fields of config.json, read strictly.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "comm/error.h"

namespace svfleet {

// A field of config.json, or `fallback` when it is absent or null; a wrong type is an error: for a
// whole number 1.9 and true, too, which the JSON library would take for 1.
template <class T>
T field(const nlohmann::json& config, const std::string& path, const char* name, T fallback) {
  auto it = config.find(name);
  if (it == config.end() || it->is_null()) return fallback;
  bool as_asked = true;
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
    as_asked = std::is_integral_v<T> ? it->is_number_integer() : it->is_number();
  try {
    if (as_asked) return it->get<T>();
  } catch (const nlohmann::json::exception&) {
  }
  throw user_error("'", path, "': field '", name, "' has an unexpected type: ", it->dump());
}

}  // namespace svfleet
