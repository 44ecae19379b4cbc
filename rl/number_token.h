// One number in a text, wherever it stands: the grammar at the top of rl/number_parse.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace svfleet {

struct NumberToken {
  double value;         // NaN: work left undone (48/2, 2^10), which has no value
  size_t begin, end;    // with sign and currency
  std::string integer;  // all digits of a whole number with its minus sign; empty for others
};

// One spelling for what has several: LaTeX, typographic signs and blanks, currencies.
std::string plain_numbers(std::string_view raw);
// The first number at or after `i` in a text from plain_numbers().
std::optional<NumberToken> next_number(std::string_view text, size_t i);

}  // namespace svfleet
