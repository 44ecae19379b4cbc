// One line of a JSONL file as JSON that has lost nothing.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace svfleet {

// The object in `line`. A number whose digits no 64-bit integer or double keeps (a long integer)
// is there as the text that it was. Error(kExitUser) with `where` in front for what is no JSON
// object, for a number that no double holds and for a field that is there twice.
nlohmann::json parse_item(std::string_view line, const std::string& where);

}  // namespace svfleet
