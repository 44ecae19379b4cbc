#include "rl/number_parse.h"

#include <cmath>
#include <string>

#include "rl/ascii.h"
#include "rl/normalise.h"
#include "rl/number_token.h"

namespace svfleet {
namespace {

std::optional<double> last_number(std::string_view text) {
  std::optional<double> last;
  for (size_t i = 0;;) {
    const auto token = next_number(text, i);
    if (!token) break;
    last = token->value;
    i = token->end;
  }
  if (last && std::isnan(*last)) return std::nullopt;
  return last;
}

bool all_of(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

// From `begin` to the end of its line.
std::string_view line_of(std::string_view text, size_t begin) {
  return text.substr(begin, text.find('\n', begin) - begin);
}

// The number of a "####" at `at_marker`, unless it is a heading.
std::optional<NumberToken> hash_marker(std::string_view text, size_t at_marker) {
  const size_t begin = at_marker + 4;
  if (line_of(text, begin).starts_with('#') || (at_marker > 0 && text[at_marker - 1] == '#'))
    return std::nullopt;
  const std::string_view line = line_of(text, begin);
  const auto token = next_number(line, 0);
  if (!token || !all_of(line.substr(0, token->begin), " \t*$=:`([\\")) return std::nullopt;
  const std::string_view rest = line.substr(token->end);
  if (!rest.empty() && (rest[0] == '.' || rest[0] == ')' || rest[0] == ':'))
    for (char c : rest)
      if (is_word(c)) return std::nullopt;
  return token;
}

// Whether the text has a marker, and its number.
bool marked_number(std::string_view text, std::optional<double>* number) {
  size_t boxed_at = 0;
  std::string_view boxed;
  const bool has_box = last_boxed(text, &boxed, &boxed_at);
  for (size_t i = text.rfind("####"); i != std::string_view::npos;
       i = i == 0 ? std::string_view::npos : text.rfind("####", i - 1)) {
    if (has_box && i < boxed_at) break;
    if (const auto token = hash_marker(text, i)) {
      *number = std::isnan(token->value) ? std::nullopt : std::optional(token->value);
      return true;
    }
  }
  if (has_box) *number = last_number(boxed);
  return has_box;
}

}  // namespace

std::optional<double> final_number(std::string_view raw) {
  const std::string text = plain_numbers(raw);
  std::optional<double> number;
  return marked_number(text, &number) ? number : last_number(text);
}

std::optional<double> gold_number(std::string_view raw) {
  const std::string text = plain_numbers(raw);
  std::optional<double> number;
  if (marked_number(text, &number)) return number;
  const auto token = next_number(text, 0);
  if (!token || std::isnan(token->value)) return std::nullopt;
  if (!all_of(std::string_view(text).substr(0, token->begin), " \t\r\n*$(`")) return std::nullopt;
  if (!all_of(std::string_view(text).substr(token->end), " \t\r\n*$)`%.")) return std::nullopt;
  return token->value;
}

}  // namespace svfleet
