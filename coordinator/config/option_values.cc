#include "coordinator/config/option_values.h"

#include <algorithm>

namespace svfleet {

CLI::Validator any_of_these(std::vector<std::string> values) {
  std::string list;
  for (const std::string& value : values) list += (list.empty() ? "" : ", ") + value;
  CLI::Validator check(
      [values, list](std::string& given) {
        return std::find(values.begin(), values.end(), given) != values.end()
                   ? std::string()
                   : "'" + given + "' is none of: " + list;
      },
      "");
  return check;
}

}  // namespace svfleet
