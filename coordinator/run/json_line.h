// JSON texts that stay one line for every reader.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace svfleet {

// Some readers of lines also end them at U+0085, U+2028 and U+2029, which a JSON text may hold as
// they are: here they are escaped.
std::string on_one_line(std::string json);

// The value as one line of UTF-8; half a character, which a reply may hold, is replaced.
template <class Json>
std::string json_line(const Json& value) {
  return on_one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace svfleet
