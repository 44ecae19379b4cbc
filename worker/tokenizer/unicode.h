// UTF-8 and the little of Unicode that a tokenizer needs beyond its regular expressions.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace svfleet {

// The text with every maximal ill-formed part as one U+FFFD, as Python's errors="replace" and the
// WHATWG decoder do. Valid text comes back unchanged.
std::string valid_utf8(std::string_view bytes);

// Decodes the character at `at`, which moves behind it. The text must be valid.
char32_t next_char(std::string_view text, size_t& at);
void append_char(std::string& text, char32_t c);

bool is_white_space(char32_t c);  // Unicode's White_Space

std::string nfc(std::string_view text);  // the text must be valid

struct CharRange {
  char32_t first, last;
};
std::span<const CharRange> white_space_ranges();

// Code points that Unicode 15.0 to 16.0 added, with their general category. Debian 12's PCRE2 knows
// Unicode 14, the tokenizers library 16: without them a newly added Han character would count as a
// symbol.
struct NewerRange {
  char32_t first, last;
  char category[3];
};
std::span<const NewerRange> newer_ranges();

// Digits of Unicode 17, which the Digits pre-tokenizer knows and the regular expressions do not.
std::span<const CharRange> newest_digits();

}  // namespace svfleet
