#include "rl/normalise.h"

#include <array>

#include "rl/ascii.h"

namespace svfleet {
namespace {

struct Spelling {
  std::string_view unicode, ascii;
};
constexpr std::array<Spelling, 14> kSpellings = {{
    {"\u2018", "'"},
    {"\u2019", "'"},
    {"\u201C", "\""},
    {"\u201D", "\""},
    {"\u2010", "-"},
    {"\u2011", "-"},
    {"\u2013", "-"},
    {"\u2014", "-"},
    {"\u2212", "-"},
    {"\uFF0D", "-"},
    {"\uFE63", "-"},
    {"\u00A0", " "},
    {"\u2009", " "},
    {"\u202F", " "},
}};

}  // namespace

std::string plain_punctuation(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t used = 0;
    if (static_cast<unsigned char>(text[i]) >= 0x80) {
      for (const Spelling& s : kSpellings) {
        if (!text.substr(i).starts_with(s.unicode)) continue;
        out += s.ascii;
        used = s.unicode.size();
        break;
      }
    }
    if (used == 0) {
      out += text[i];
      used = 1;
    }
    i += used;
  }
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = to_lower(c);
  return out;
}

std::string normalise(std::string_view text, bool ignore_case) {
  std::string out;
  for (char c : plain_punctuation(text)) {
    if (!is_space(c)) {
      out += ignore_case ? to_lower(c) : c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  constexpr std::string_view kEnds = ".,;:!?'\"`*_()[]{}<> ";
  const size_t begin = out.find_first_not_of(kEnds);
  if (begin == std::string::npos) return out;
  return out.substr(begin, out.find_last_not_of(kEnds) - begin + 1);
}

bool last_boxed(std::string_view text, std::string_view* content, size_t* begin) {
  constexpr std::string_view kBoxed = "\\boxed{";
  for (size_t at = text.rfind(kBoxed); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : text.rfind(kBoxed, at - 1)) {
    const size_t start = at + kBoxed.size();
    int depth = 1;
    for (size_t i = start; i < text.size(); ++i) {
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
      if (depth > 0) continue;
      *content = text.substr(start, i - start);
      *begin = start;
      return true;
    }
  }
  return false;
}

}  // namespace svfleet
