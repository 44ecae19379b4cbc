// Whether a text that a user gives is one.
#pragma once

#include <string>

namespace svfleet {

// The first byte that belongs to no character of UTF-8; npos where all do.
size_t not_utf8_at(const std::string& text);

}  // namespace svfleet
