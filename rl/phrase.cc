#include "rl/phrase.h"

#include <utf8proc.h>

#include "rl/ascii.h"

namespace svfleet {
namespace {

utf8proc_int32_t char_at(std::string_view text, size_t i) {
  utf8proc_int32_t c = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + i,
                   static_cast<utf8proc_ssize_t>(text.size() - i), &c);
  return c;
}

size_t begin_of_char_before(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

bool is_without_blanks(utf8proc_int32_t c) {
  return (c >= 0x0E00 && c <= 0x0EFF) ||  // Thai, Lao
         (c >= 0x1000 && c <= 0x109F) ||  // Burmese
         (c >= 0x1780 && c <= 0x17FF) ||  // Khmer
         (c >= 0x2E80 && c <= 0xA4CF) ||  // Han, kana
         (c >= 0xAC00 && c <= 0xD7AF) ||  // Hangul: particles follow the word
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

// A letter, mark or digit that makes one word with its neighbours.
bool joins(utf8proc_int32_t c) {
  if (c < 0 || is_without_blanks(c)) return false;
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

bool begins_word(std::string_view text, size_t i) {
  if (i == 0) return true;
  const char before = text[i - 1];
  if (joins(char_at(text, i)) && joins(char_at(text, begin_of_char_before(text, i)))) return false;
  // ".5" is no part of 10.5.
  if (text[i] == '.' && i + 1 < text.size() && is_digit(text[i + 1])) return !is_digit(before);
  if (!is_digit(text[i])) return true;
  // The rest of 3.5 or 1,500, or a number with its minus sign.
  if ((before == '.' || before == ',') && i > 1 && is_digit(text[i - 2])) return false;
  return before != '-' || (i > 1 && is_word(text[i - 2]));
}

bool ends_word(std::string_view text, size_t end) {
  if (end == text.size()) return true;
  const size_t last = begin_of_char_before(text, end);
  if (joins(char_at(text, last)) && joins(char_at(text, end))) return false;
  return !(is_digit(text[last]) && (text[end] == '.' || text[end] == ',') &&
           end + 1 < text.size() && is_digit(text[end + 1]));
}

}  // namespace

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return begins_word(text, begin) && ends_word(text, end);
}

bool has_phrase(std::string_view text, std::string_view phrase) {
  if (phrase.empty()) return false;
  for (size_t i = text.find(phrase); i != std::string_view::npos; i = text.find(phrase, i + 1))
    if (stands_alone(text, i, i + phrase.size())) return true;
  return false;
}

}  // namespace svfleet
