#include "rl/number_work.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "rl/ascii.h"
#include "rl/normalise.h"

namespace svfleet {
namespace {

constexpr std::string_view kFunctions[] = {"sqrt", "log", "ln", "exp", "sin", "cos", "tan", "lg"};
constexpr std::string_view kConstants[] = {"pi",  "theta", "alpha", "beta",
                                           "phi", "infty", "varphi"};

size_t skip_blanks(std::string_view text, size_t i) {
  while (at(text, i) == ' ') ++i;
  return i;
}

// Behind the bracket that closes the one at `i`; the end of the text where none does.
size_t group_end(std::string_view text, size_t i) {
  const char open = text[i], close = open == '(' ? ')' : open == '[' ? ']' : '}';
  int depth = 0;
  for (; i < text.size(); ++i) {
    depth += text[i] == open ? 1 : text[i] == close ? -1 : 0;
    if (depth == 0) return i + 1;
  }
  return text.size();
}

// Behind {..}, (..), a number or a name at `i`; `i` itself where there is none of them.
size_t argument_end(std::string_view text, size_t i) {
  if (starts(text, i, "\\left")) i += 5;
  if (at(text, i) == '{' || at(text, i) == '(') return group_end(text, i);
  if (at(text, i) == '\\') ++i;
  while (is_word(at(text, i)) || (at(text, i) == '.' && is_digit(at(text, i + 1)))) ++i;
  return i;
}

// Behind one of `names` at `i`, no letter following; 0 where there is none.
template <size_t n>
size_t name_end(const std::string_view (&names)[n], std::string_view text, size_t i) {
  for (std::string_view name : names)
    if (starts(text, i, name) && !is_letter(at(text, i + name.size()))) return i + name.size();
  return 0;
}

}  // namespace

size_t function_end(std::string_view text, size_t i) {
  const bool command = at(text, i) == '\\';
  if (!command &&
      (!is_lower(at(text, i)) || (i > 0 && (is_word(text[i - 1]) || text[i - 1] == '\\'))))
    return 0;
  if (command) {
    constexpr std::string_view kBinomials[] = {"binom", "dbinom", "tbinom"};
    if (const size_t end = name_end(kBinomials, text, i + 1))
      return argument_end(text, argument_end(text, end));
  }
  size_t end = name_end(kFunctions, text, command ? i + 1 : i);
  if (end == 0) return 0;
  if (at(text, end) == '[') end = group_end(text, end);
  while (at(text, end) == '_' || at(text, end) == '^') end = argument_end(text, end + 1);
  if (!command) return at(text, end) == '(' ? group_end(text, end) : 0;
  return argument_end(text, skip_blanks(text, end));
}

size_t ordinal_end(std::string_view text, size_t end) {
  for (std::string_view open : {"", "^{", "^{\\text{", "^{\\mathrm{", "^{\\rm ", "^\\text{",
                                "^\\mathrm{", "\\text{", "\\textsuperscript{"}) {
    if (!starts(text, end, open)) continue;
    const size_t letters = end + open.size();
    const std::string two = lower_case(text.substr(std::min(letters, text.size()), 2));
    if ((two == "st" || two == "nd" || two == "rd" || two == "th") &&
        !is_word(at(text, letters + 2)))
      return letters + 2;
  }
  return 0;
}

size_t odd_group_end(std::string_view text, size_t begin, size_t end) {
  if (text[begin] == '0' && end == begin + 1 && (at(text, end) == 'x' || at(text, end) == 'X') &&
      std::isxdigit(static_cast<unsigned char>(at(text, end + 1)))) {
    for (++end; std::isxdigit(static_cast<unsigned char>(at(text, end)));) ++end;
    return end;
  }
  const char mark = at(text, end);
  if (mark == '_' && is_digit(at(text, end + 1))) {  // 12_500, and 101_2
    while (is_digit(at(text, end)) || at(text, end) == '_') ++end;
    return end;
  }
  if ((mark != ' ' && mark != '\'') || end - begin > 3 || text[begin] == '0') return 0;
  if (!std::all_of(text.begin() + begin, text.begin() + end, is_digit)) return 0;
  size_t last = end;
  while (at(text, last) == mark && is_digit(at(text, last + 1)) && is_digit(at(text, last + 2)) &&
         is_digit(at(text, last + 3)) && !is_word(at(text, last + 4)) && at(text, last + 4) != '/')
    last += 4;
  return last > end ? last : 0;
}

bool is_factor(std::string_view text, size_t end) {
  const char next = at(text, end);
  if (next != '\0' && std::string_view("xyzni").find(next) != std::string_view::npos &&
      !is_letter(at(text, end + 1)))
    return true;
  size_t i = skip_blanks(text, end);
  if (at(text, i) == '*') i = skip_blanks(text, i + 1);
  return at(text, i) == '\\' &&
         (name_end(kFunctions, text, i + 1) > 0 || name_end(kConstants, text, i + 1) > 0);
}

bool is_scaled(std::string_view text, size_t end) {
  size_t i = end;
  if (at(text, i) == '-' || at(text, i) == ' ') ++i;
  size_t stop = i;
  while (is_letter(at(text, stop))) ++stop;
  std::string word = lower_case(text.substr(std::min(i, text.size()), stop - i));
  if (word.size() > 3 && word.back() == 's') word.pop_back();
  for (std::string_view scale :
       {"hundred", "thousand", "million", "billion", "trillion", "dozen", "lakh", "crore", "bn",
        "mn", "mio", "mrd", "tenth", "hundredth", "thousandth", "millionth"})
    if (word == scale) return true;
  // Glued letters; 5m may be metres.
  const std::string_view letter =
      text.substr(std::min(end, text.size()), stop - std::min(end, stop));
  return i == end && !is_digit(at(text, stop)) &&
         (letter == "k" || letter == "K" || letter == "M" || letter == "B");
}

}  // namespace svfleet
