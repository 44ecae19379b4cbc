// Whether a text says something, as whole words.
#pragma once

#include <cstddef>
#include <string_view>

namespace svfleet {

// Whether `phrase` stands in `text` (both from normalise()), not as a part of a longer word or
// number: "no" is not in "know", nor 5 in 15, 5.3 or -5. In scripts without blanks between words
// (Chinese, Japanese, Thai and their like) it may stand anywhere.
bool has_phrase(std::string_view text, std::string_view phrase);

// Whether text[begin, end) is no part of a longer word or number.
bool stands_alone(std::string_view text, size_t begin, size_t end);

}  // namespace svfleet
