// Spellings of numbers that are read as plain ones (rl/number_token.h): superscripts, fractions,
// full width.
#include "rl/ascii.h"
#include "rl/normalise.h"
#include "rl/number_token.h"

namespace svfleet {
namespace {

struct Rewrite {
  std::string_view from, to;
};

// The superscripts at `i` as ^12, or a fraction such as ½ as 1/2. Returns the bytes they take.
size_t add_small_digits(std::string_view raw, size_t i, std::string* out) {
  constexpr Rewrite kPowers[] = {{"⁰", "0"}, {"¹", "1"}, {"²", "2"}, {"³", "3"},
                                 {"⁴", "4"}, {"⁵", "5"}, {"⁶", "6"}, {"⁷", "7"},
                                 {"⁸", "8"}, {"⁹", "9"}, {"⁻", "-"}, {"⁺", ""}};
  constexpr Rewrite kFractions[] = {
      {"½", "1/2"}, {"⅓", "1/3"}, {"⅔", "2/3"}, {"¼", "1/4"}, {"¾", "3/4"}, {"⅕", "1/5"},
      {"⅖", "2/5"}, {"⅗", "3/5"}, {"⅘", "4/5"}, {"⅙", "1/6"}, {"⅚", "5/6"}, {"⅛", "1/8"},
      {"⅜", "3/8"}, {"⅝", "5/8"}, {"⅞", "7/8"}, {"⅐", "1/7"}, {"⅑", "1/9"}, {"⅒", "1/10"}};
  if (static_cast<unsigned char>(raw[i]) < 0x80) return 0;
  for (const Rewrite& fraction : kFractions) {
    if (!starts(raw, i, fraction.from)) continue;
    if (!out->empty() && is_digit(out->back())) *out += ' ';
    *out += fraction.to;
    return fraction.from.size();
  }
  size_t end = i;
  for (bool more = true; more;) {
    more = false;
    for (const Rewrite& power : kPowers) {
      if (!starts(raw, end, power.from)) continue;
      if (end == i) *out += '^';
      *out += power.to;
      end += power.from.size();
      more = true;
      break;
    }
  }
  return end - i;
}

}  // namespace

std::string plain_numbers(std::string_view raw) {
  constexpr std::string_view kThousands = "\x01";  // a comma between digits, else a blank
  constexpr Rewrite kRules[] = {
      {"\\!", ""},
      {"{,}", ","},
      {"\\,", kThousands},
      {"\\;", kThousands},
      {"\\ ", kThousands},
      {"\u00A0", kThousands},
      {"\u2007", kThousands},
      {"\u2009", kThousands},
      {"\u202F", kThousands},
      {"\\%", "%"},
      {"\\$", "$"},
      {"€", "$"},
      {"£", "$"},
      {"¥", "$"},
      {"₹", "$"},
      {"\\dfrac", "\\frac"},
      {"\\tfrac", "\\frac"},
      {"\\times", "*"},
      {"\\cdot", "*"},
      {"×", "*"},
      {"^{\\circ}", " "},
      {"^\\circ", " "},
      {"\u2044", "/"},
      {"√", "\\sqrt"},
      {"π", "\\pi"},
  };
  std::string marked;
  for (size_t i = 0; i < raw.size();) {
    const Rewrite* hit = nullptr;
    if (raw[i] == '\\' || raw[i] == '{' || raw[i] == '^' ||
        static_cast<unsigned char>(raw[i]) > 127)
      for (const Rewrite& rule : kRules)
        if (starts(raw, i, rule.from)) {
          hit = &rule;
          break;
        }
    if (hit) {
      marked += hit->to;
      i += hit->from.size();
    } else if (const size_t length = add_small_digits(raw, i, &marked)) {
      i += length;
    } else {
      marked += raw[i++];
    }
  }
  for (size_t i = 0; i < marked.size(); ++i)
    if (marked[i] == '\x01')
      marked[i] =
          i > 0 && is_digit(marked[i - 1]) && i + 1 < marked.size() && is_digit(marked[i + 1])
              ? ','
              : ' ';
  return plain_punctuation(marked);
}

}  // namespace svfleet
