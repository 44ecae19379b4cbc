// Character classes that no locale can change, and looks into a text that may go past its end.
#pragma once

#include <cstddef>
#include <string_view>

namespace svfleet {

inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
inline bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
inline bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
inline bool is_letter(char c) {
  return is_lower(c) || is_upper(c);
}
inline bool is_word(char c) {
  return is_letter(c) || is_digit(c);
}
inline bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
inline char to_lower(char c) {
  return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
}

// '\0' behind the end.
inline char at(std::string_view text, size_t i) {
  return i < text.size() ? text[i] : '\0';
}
inline bool starts(std::string_view text, size_t i, std::string_view prefix) {
  return i <= text.size() && text.substr(i).starts_with(prefix);
}

}  // namespace svfleet
