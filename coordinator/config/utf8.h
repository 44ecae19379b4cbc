// Whether a text that a user gives is one.
#pragma once

#include <string>

namespace svfleet {

// Where the first bytes lie that are no character of UTF-8; npos where all are.
size_t not_utf8_at(const std::string& text);

}  // namespace svfleet
