// JSON texts that stay one line for every reader.
#pragma once

#include <string>

namespace svfleet {

// Some readers of lines also end them at U+0085, U+2028 and U+2029, which a JSON text may hold as
// they are: here they are escaped.
std::string on_one_line(std::string json);

}  // namespace svfleet
