// Whether a text says that something is *not* the answer: "It is not B", "B is wrong".
#pragma once

#include <cstddef>
#include <string_view>

namespace svfleet {

// By the words before what begins at `begin`; `lower` is the text in lower case (ASCII).
bool is_denied_before(std::string_view lower, size_t begin);
// By the words behind what ends at `end`.
bool is_denied_after(std::string_view lower, size_t end);

}  // namespace svfleet
