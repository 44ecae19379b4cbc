#include "rl/number_parse.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "rl/ascii.h"
#include "rl/normalise.h"
#include "rl/number_token.h"

namespace svfleet {
namespace {

std::optional<NumberToken> with_value(std::optional<NumberToken> token) {
  return token && !std::isnan(token->value) ? token : std::nullopt;
}

std::vector<NumberToken> numbers_in(std::string_view text) {
  std::vector<NumberToken> all;
  for (size_t i = 0;;) {
    const auto token = next_number(text, i);
    if (!token) return all;
    i = token->end;
    all.push_back(*token);
  }
}

std::optional<NumberToken> last_number(std::string_view text) {
  const auto all = numbers_in(text);
  return all.empty() ? std::nullopt : with_value(all.back());
}

bool all_of(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

// From `begin` to the end of its line.
std::string_view line_of(std::string_view text, size_t begin) {
  return text.substr(begin, text.find('\n', begin) - begin);
}

// An operator and another number: #### 3 + 4.
bool goes_on(std::string_view rest) {
  const size_t sign = std::min(rest.find_first_not_of(' '), rest.size());
  if (sign == rest.size() || std::string_view("+*=^").find(rest[sign]) == std::string_view::npos)
    return false;
  const size_t next = rest.find_first_not_of(" *", sign + 1);
  return next != std::string_view::npos && is_digit(rest[next]);
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
  if (goes_on(rest)) return NumberToken{std::nan(""), token->begin, token->end, ""};
  if (!rest.empty() && (rest[0] == '.' || rest[0] == ')' || rest[0] == ':'))
    for (char c : rest)
      if (is_word(c)) return std::nullopt;
  return token;
}

// Without \text{...} and its like.
std::string without_words(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t open = std::string_view::npos;
    for (std::string_view name : {"\\text{", "\\textbf{", "\\mathrm{", "\\mbox{", "\\textit{"})
      if (text.substr(i).starts_with(name)) open = i + name.size();
    if (open == std::string_view::npos) {
      out += text[i++];
      continue;
    }
    int depth = 1;
    for (i = open; i < text.size() && depth > 0; ++i)
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    out += ' ';
  }
  return out;
}

// The number that a box holds: one, or one behind the last equals sign, with nothing left to do.
std::optional<NumberToken> boxed_number(std::string_view content) {
  std::string words_out = without_words(content);
  if (numbers_in(words_out).empty()) words_out = content;
  std::string_view text = words_out;
  if (const size_t equals = text.rfind('='); equals != std::string_view::npos) {
    for (size_t i = 0; i < equals; ++i)  // x = 5, y = 6
      if (text[i] == ',' && !(i > 0 && is_digit(text[i - 1]) && is_digit(text[i + 1])))
        return std::nullopt;
    text = text.substr(equals + 1);
  }
  const auto all = numbers_in(text);
  if (all.size() != 1) return std::nullopt;
  const std::string rest =
      std::string(text.substr(0, all[0].begin)) + " " + std::string(text.substr(all[0].end));
  if (rest.find_first_of("+-*!|<>") != std::string::npos) return std::nullopt;
  for (std::string_view other : {"\\pm", "\\le", "\\ge", "\\ne", "\\lt", "\\gt"})
    for (size_t i = rest.find(other); i != std::string::npos; i = rest.find(other, i + 1))
      if (!rest.substr(i).starts_with("\\left")) return std::nullopt;
  return with_value(all[0]);
}

// The number of the last marker; nothing where the text has none.
std::optional<std::optional<NumberToken>> marked_number(std::string_view text) {
  size_t boxed_at = 0;
  std::string_view boxed;
  const bool has_box = last_boxed(text, &boxed, &boxed_at);
  for (size_t i = text.rfind("####"); i != std::string_view::npos;
       i = i == 0 ? std::string_view::npos : text.rfind("####", i - 1)) {
    if (has_box && i < boxed_at) break;
    if (const auto token = hash_marker(text, i)) return with_value(token);
  }
  if (has_box) return boxed_number(boxed);
  return std::nullopt;
}

std::optional<NumberToken> stated(const std::string& text) {
  const auto marked = marked_number(text);
  return marked ? *marked : last_number(text);
}

std::optional<NumberToken> stated_by_gold(const std::string& text) {
  if (const auto marked = marked_number(text)) return *marked;
  const auto token = with_value(next_number(text, 0));
  if (!token) return std::nullopt;
  if (!all_of(std::string_view(text).substr(0, token->begin), " \t\r\n*$(`")) return std::nullopt;
  if (!all_of(std::string_view(text).substr(token->end), " \t\r\n*$)`%.")) return std::nullopt;
  return token;
}

std::optional<double> value_of(const std::optional<NumberToken>& token) {
  return token ? std::optional(token->value) : std::nullopt;
}

}  // namespace

std::optional<double> final_number(std::string_view raw) {
  return value_of(stated(plain_numbers(raw)));
}

std::optional<double> gold_number(std::string_view raw) {
  return value_of(stated_by_gold(plain_numbers(raw)));
}

bool same_number(std::string_view reply, std::string_view gold, double tolerance) {
  const auto have = stated(plain_numbers(reply)), want = stated_by_gold(plain_numbers(gold));
  if (!have || !want) return false;
  // Whole numbers that a double does not hold are compared by all of their digits.
  if (tolerance < 1 && !have->integer.empty() && !want->integer.empty())
    return have->integer == want->integer;
  return std::abs(have->value - want->value) <= tolerance;
}

std::optional<std::string> spelt_number(std::string_view reply, double tolerance) {
  const auto have = stated(plain_numbers(reply));
  if (!have) return std::nullopt;
  if (tolerance < 1 && !have->integer.empty()) return have->integer;
  double value = have->value;
  // Finer than its digits reach, the grid would only add rounding.
  if (tolerance > std::abs(value) * 1e-15) value = std::round(value / tolerance) * tolerance;
  char text[40];
  std::snprintf(text, sizeof text, "%.15g", value == 0 ? 0.0 : value);
  return text;
}

}  // namespace svfleet
