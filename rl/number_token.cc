#include "rl/number_token.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "rl/ascii.h"
#include "rl/number_work.h"

namespace svfleet {
namespace {

constexpr double kUndone = std::numeric_limits<double>::quiet_NaN();

size_t skip_spaces(std::string_view text, size_t i) {
  while (is_space(at(text, i))) ++i;
  return i;
}

struct Unsigned {
  double value;
  size_t end;
  bool integer;  // digits and thousands commas only
  bool chain;    // 1.2.3: not a number
  std::string digits = {};
};

// At a digit, or at a dot before one.
Unsigned read_unsigned(std::string_view text, size_t i) {
  std::string digits;
  const size_t begin = i;
  while (is_digit(at(text, i))) digits += text[i++];
  if (i - begin >= 1 && i - begin <= 3 && text[begin] != '0') {
    while (at(text, i) == ',' && is_digit(at(text, i + 1)) && is_digit(at(text, i + 2)) &&
           is_digit(at(text, i + 3)) && !is_digit(at(text, i + 4))) {
      digits += text.substr(i + 1, 3);
      i += 4;
    }
  }
  bool integer = true;
  if (at(text, i) == '.' && is_digit(at(text, i + 1))) {
    integer = false;
    digits += text[i++];
    while (is_digit(at(text, i))) digits += text[i++];
    if (at(text, i) == '.' && is_digit(at(text, i + 1))) {
      while (is_digit(at(text, i)) || (at(text, i) == '.' && is_digit(at(text, i + 1)))) ++i;
      return {kUndone, i, false, true};
    }
  }
  if (at(text, i) == 'e' || at(text, i) == 'E') {
    size_t j = i + 1;
    if (at(text, j) == '-' || at(text, j) == '+') ++j;
    if (is_digit(at(text, j))) {
      while (is_digit(at(text, j))) ++j;
      if (!is_word(at(text, j))) {
        const bool plus = text[i + 1] == '+';  // from_chars reads no plus sign
        digits += 'e';
        digits += text.substr(i + 1 + plus, j - i - 1 - plus);
        integer = false;
        i = j;
      }
    }
  }
  if (digits.front() == '.') digits.insert(digits.begin(), '0');
  double value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return {read.ec == std::errc() ? value : kUndone, i, integer, false, digits};
}

// ^5, ^{5}, ^{-5} at i.
bool read_exponent(std::string_view text, size_t i, double* value, size_t* end) {
  if (at(text, i) != '^') return false;
  const bool braced = at(text, ++i) == '{';
  if (braced) i = skip_spaces(text, i + 1);
  const bool minus = at(text, i) == '-';
  if (minus) ++i;
  if (!is_digit(at(text, i))) return false;
  const Unsigned power = read_unsigned(text, i);
  i = power.end;
  if (braced) {
    i = skip_spaces(text, i);
    if (at(text, i) != '}') return false;
    ++i;
  }
  *value = minus ? -power.value : power.value;
  *end = i;
  return true;
}

// A quotient that is whole is a division left undone.
double quotient(double a, double b) {
  const double q = a / b;
  return b == 0 || q == std::floor(q) ? kUndone : q;
}

// {..} or one digit, of a \frac, at i; `value` NaN when it is not a plain number.
bool read_argument(std::string_view text, size_t i, double* value, size_t* end) {
  if (is_digit(at(text, i))) {
    *value = text[i] - '0';
    *end = i + 1;
    return true;
  }
  if (at(text, i) != '{') return false;
  int depth = 0;
  size_t close = i;
  for (; close < text.size(); ++close) {
    depth += text[close] == '{' ? 1 : text[close] == '}' ? -1 : 0;
    if (depth == 0) break;
  }
  if (close == text.size()) return false;
  *end = close + 1;
  *value = kUndone;
  size_t j = skip_spaces(text, i + 1);
  const bool minus = at(text, j) == '-';
  if (minus) ++j;
  if (!is_digit(at(text, j))) return true;
  const Unsigned number = read_unsigned(text, j);
  if (skip_spaces(text, number.end) == close) *value = minus ? -number.value : number.value;
  return true;
}

bool read_frac(std::string_view text, size_t i, double* value, size_t* end) {
  constexpr std::string_view kFrac = "\\frac";
  if (!starts(text, i, kFrac)) return false;
  double a = 0, b = 0;
  size_t middle = 0;
  if (!read_argument(text, skip_spaces(text, i + kFrac.size()), &a, &middle)) return false;
  if (!read_argument(text, skip_spaces(text, middle), &b, end)) return false;
  *value = quotient(a, b);
  return true;
}

// a/b at a's end; false for a/b/c.
bool read_slash(std::string_view text, double a, size_t i, double* value, size_t* end) {
  if (at(text, i) != '/' || !is_digit(at(text, i + 1))) return false;
  const Unsigned b = read_unsigned(text, i + 1);
  if (b.chain || (at(text, b.end) == '/' && is_digit(at(text, b.end + 1)))) return false;
  *value = quotient(a, b.value);
  *end = b.end;
  return true;
}

// What may follow the digits and belongs to the number: a fraction bar, a mixed fraction, a power
// of ten.
void read_tail(std::string_view text, bool after_slash, bool integer, double* value, size_t* end) {
  double part = 0;
  if (integer && !after_slash) {
    if (read_slash(text, *value, *end, value, end)) return;
    const size_t next = at(text, *end) == ' ' ? *end + 1 : *end;
    if (read_frac(text, next, &part, end)) {
      *value = part > 0 && part < 1 ? *value + part : kUndone;
      return;
    }
    if (next > *end && is_digit(at(text, next))) {
      const Unsigned numerator = read_unsigned(text, next);
      size_t after = 0;
      if (numerator.integer && read_slash(text, numerator.value, numerator.end, &part, &after) &&
          part > 0 && part < 1) {
        *value += part;
        *end = after;
        return;
      }
    }
  }
  if (read_exponent(text, *end, &part, end)) {
    *value = *value == 10 ? std::pow(10, part) : kUndone;
    return;
  }
  size_t i = skip_spaces(text, *end);
  if (at(text, i) == '*' || at(text, i) == 'x') {
    i = skip_spaces(text, i + 1);
    if (starts(text, i, "10^") && read_exponent(text, i + 2, &part, end))
      *value *= std::pow(10, part);
  }
}

// Where the sign and currency before a number at `i` begin.
size_t sign_begin(std::string_view text, size_t i, bool* minus) {
  size_t begin = i;
  *minus = false;
  if (begin > 0 && text[begin - 1] == '$') --begin;
  if (begin > 0 && (text[begin - 1] == '-' || text[begin - 1] == '+')) {
    const char before = begin > 1 ? text[begin - 2] : ' ';
    const bool joins = is_word(before) || before == ')' || before == ']' || before == '}' ||
                       before == '%' || before == '-' || before == '.';
    if (!joins) {
      *minus = text[begin - 1] == '-';
      --begin;
      if (begin > 0 && text[begin - 1] == '$') --begin;
    }
  }
  return begin;
}

// "-1234" of "001234" or "1234.00"; empty where the number is not whole.
std::string whole_digits(const std::string& digits, bool minus) {
  const size_t dot = std::min(digits.find('.'), digits.size());
  if (digits.find_first_not_of('0', std::min(dot + 1, digits.size())) != std::string::npos &&
      dot < digits.size())
    return "";
  if (digits.find_first_not_of("0123456789.") != std::string::npos) return "";
  const size_t first = digits.find_first_not_of('0');
  if (first >= dot) return "0";
  return (minus ? "-" : "") + digits.substr(first, dot - first);
}

// The digits at i are an exponent or a subscript: m^2, m^{2}, a_1. (_5_ alone is emphasis.)
bool is_script(std::string_view text, size_t i) {
  size_t j = i;
  if (j > 0 && (text[j - 1] == '-' || text[j - 1] == '+')) --j;
  if (j > 0 && text[j - 1] == '{') --j;
  if (j == 0) return false;
  if (text[j - 1] == '^') return true;
  return text[j - 1] == '_' && j > 1 &&
         (is_word(text[j - 2]) || text[j - 2] == ')' || text[j - 2] == '}');
}

}  // namespace

std::optional<NumberToken> next_number(std::string_view text, size_t i) {
  while (i < text.size()) {
    NumberToken token{};
    bool minus = false;
    if (const size_t end = function_end(text, i)) {  // \sqrt{16}
      if (std::any_of(text.begin() + i, text.begin() + end, is_digit))
        return NumberToken{kUndone, i, end, ""};
      i = end;
      continue;
    }
    if (read_frac(text, i, &token.value, &token.end)) {
      if (is_factor(text, token.end) || is_scaled(text, token.end)) token.value = kUndone;
      token.begin = sign_begin(text, i, &minus);
      if (minus) token.value = -token.value;
      return token;
    }
    const char before = i > 0 ? text[i - 1] : ' ';
    const bool dot = text[i] == '.' && is_digit(at(text, i + 1)) && !is_word(before) &&
                     before != '.' && before != ')';
    if (!is_digit(text[i]) && !dot) {
      ++i;
      continue;
    }
    if (is_letter(before)) {
      while (is_word(at(text, i)) || (at(text, i) == '.' && is_digit(at(text, i + 1)))) ++i;
      continue;
    }
    const Unsigned number = read_unsigned(text, i);
    if (number.chain || is_script(text, i)) {
      i = number.end;
      continue;
    }
    if (const size_t end = number.integer ? ordinal_end(text, number.end) : 0) {  // 5th
      i = end;
      continue;
    }
    token.value = number.value;
    token.end = number.end;
    if (const size_t end = odd_group_end(text, i, number.end)) {  // 12 500
      token.value = kUndone;
      token.end = end;
    } else {
      const bool after_slash = before == '/' && i > 1 && is_digit(text[i - 2]);
      read_tail(text, after_slash, number.integer, &token.value, &token.end);
      if (is_factor(text, token.end) || is_scaled(text, token.end) || at(text, token.end) == '^')
        token.value = kUndone;
    }
    token.begin = sign_begin(text, i, &minus);
    if (minus) token.value = -token.value;
    if (token.end == number.end && !std::isnan(token.value))
      token.integer = whole_digits(number.digits, minus);
    return token;
  }
  return std::nullopt;
}

}  // namespace svfleet
