#include "coordinator/run/json_line.h"

#include <utility>

namespace svfleet {

std::string on_one_line(std::string json) {
  for (const auto& [raw, escaped] : {std::pair<const char*, const char*>("\xc2\x85", "\\u0085"),
                                     {"\xe2\x80\xa8", "\\u2028"},
                                     {"\xe2\x80\xa9", "\\u2029"}})
    for (size_t at = 0; (at = json.find(raw, at)) != json.npos; at += 6)
      json.replace(at, std::char_traits<char>::length(raw), escaped);
  return json;
}

}  // namespace svfleet
