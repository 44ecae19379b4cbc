// What stands beside a number and makes another one of it, or none: work that is left to the
// reader. All take a text from plain_numbers().
#pragma once

#include <cstddef>
#include <string_view>

namespace svfleet {

// The end of a function with its argument that begins at `i`: \sqrt{16}, \log_2 8, sqrt(16),
// \binom{5}{2}; 0 where there is none.
size_t function_end(std::string_view text, size_t i);
// Behind the ordinal's letters at the end of the digits: 5th, 5^{th}; 0 where there are none.
size_t ordinal_end(std::string_view text, size_t end);
// Behind digits that belong to those from `begin` to `end` in a way that is not read: 12 500,
// 12'500, 12_500, 0x1F; 0 where there are none.
size_t odd_group_end(std::string_view text, size_t begin, size_t end);
// What ends at `end` is multiplied by something that is no number: 3\pi, 2\sqrt{3}, 3x.
bool is_factor(std::string_view text, size_t end);
// A word or letter of scale follows: 2.5 million, 3 dozen, 5k.
bool is_scaled(std::string_view text, size_t end);

}  // namespace svfleet
