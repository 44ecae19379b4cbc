// Fields of config.json, read strictly.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "comm/error.h"

namespace svfleet {

// A field of config.json, or `fallback` when it is absent or null; a wrong type is an error.
template <class T>
T field(const nlohmann::json& config, const std::string& path, const char* name, T fallback) {
  auto it = config.find(name);
  if (it == config.end() || it->is_null()) return fallback;
  try {
    return it->get<T>();
  } catch (const nlohmann::json::exception&) {
    throw user_error("'", path, "': field '", name, "' has an unexpected type: ", it->dump());
  }
}

}  // namespace svfleet
