#include "rl/normalise.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "rl/ascii.h"

namespace svfleet {
namespace {

struct Spelling {
  std::string_view unicode, ascii;
};
constexpr Spelling kQuotes[] = {
    {"\u2018", "'"},  {"\u2019", "'"},  {"\u201A", "'"},  {"\u201B", "'"},
    {"\u2039", "'"},  {"\u203A", "'"},  {"\u201C", "\""}, {"\u201D", "\""},
    {"\u201E", "\""}, {"\u201F", "\""}, {"\u00AB", "\""}, {"\u00BB", "\""},
};
// Inside a text; at its ends all punctuation goes.
constexpr Spelling kStops[] = {
    {"\u3001", ","}, {"\u3002", "."}, {"\u060C", ","}, {"\u061B", ";"}, {"\u061F", "?"},
};
// Punctuation to Unicode, but part of a number: per mille, primes, the Arabic percent sign.
constexpr std::string_view kMeant[] = {"\u2030", "\u2031", "\u2032", "\u2033", "\u2034",
                                       "\u2035", "\u2036", "\u2037", "\u066A"};

// The character at `i` and its length; -1 and 1 for a byte that is not UTF-8.
utf8proc_int32_t char_at(std::string_view text, size_t i, size_t* length) {
  utf8proc_int32_t c = -1;
  const auto read = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + i,
                                     static_cast<utf8proc_ssize_t>(text.size() - i), &c);
  *length = read > 0 ? static_cast<size_t>(read) : 1;
  return read > 0 ? c : -1;
}

template <size_t n>
const Spelling* find_spelling(const Spelling (&table)[n], std::string_view text) {
  for (const Spelling& spelling : table)
    if (text.starts_with(spelling.unicode)) return &spelling;
  return nullptr;
}

bool is_invisible(utf8proc_int32_t c) {
  return c == 0xAD || c == 0x200B || c == 0x200E || c == 0x200F || c == 0x2060 || c == 0xFEFF ||
         (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void add_plain(utf8proc_int32_t c, std::string_view bytes, std::string* out) {
  const utf8proc_property_t* property = utf8proc_get_property(c);
  // Full and half width.
  if (property->decomp_type == UTF8PROC_DECOMP_TYPE_WIDE ||
      property->decomp_type == UTF8PROC_DECOMP_TYPE_NARROW) {
    utf8proc_int32_t narrow[4];
    int unused = UTF8PROC_BOUNDCLASS_START;
    const auto n = utf8proc_decompose_char(
        c, narrow, 4, static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT),
        &unused);
    for (utf8proc_ssize_t i = 0; i < n && i < 4; ++i) {
      utf8proc_uint8_t text[4];
      const auto length = utf8proc_encode_char(narrow[i], text);
      out->append(reinterpret_cast<const char*>(text), static_cast<size_t>(length));
    }
    return;
  }
  const auto category = utf8proc_category(c);
  if (category == UTF8PROC_CATEGORY_PD || c == 0x2212)
    *out += '-';
  else if (category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP || c == 0x85)
    *out += ' ';
  else if (!is_invisible(c))
    out->append(bytes);
}

// The length of the character that begins at `i`, where that is punctuation which an answer may
// have at one end alone; else 0.
size_t loose_punctuation(std::string_view text, size_t i) {
  constexpr std::string_view kAscii = ".,;:!?'\"`*_ ";
  if (static_cast<unsigned char>(text[i]) < 0x80)
    return kAscii.find(text[i]) != std::string_view::npos ? 1 : 0;
  for (std::string_view meant : kMeant)
    if (text.substr(i).starts_with(meant)) return 0;
  size_t length = 0;
  const utf8proc_int32_t c = char_at(text, i, &length);
  const auto category = utf8proc_category(c);
  return c >= 0 && category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO ? length
                                                                                        : 0;
}

constexpr std::string_view kOpen = "([{<", kClose = ")]}>";

// Whether one pair of brackets is round all of it: not of "(a) or (b)", nor of "[0, 1)".
bool is_bracketed(std::string_view text) {
  const size_t kind = text.size() < 2 ? kOpen.npos : kOpen.find(text.front());
  if (kind == kOpen.npos || text.back() != kClose[kind]) return false;
  int64_t depth = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    depth += text[i] == kOpen[kind] ? 1 : text[i] == kClose[kind] ? -1 : 0;
    if (depth == 0) return false;
  }
  return depth == 1;
}

// The point of ".5" at `i`, and not the last of "...5".
bool is_decimal_point(std::string_view text, size_t i) {
  return text[i] == '.' && i + 1 < text.size() && is_digit(text[i + 1]) &&
         (i == 0 || text[i - 1] != '.');
}

// Without loose punctuation at the ends and brackets round all of it; empty where nothing is left.
std::string_view core_of(std::string_view text) {
  for (;;) {
    size_t begin = 0, end = 0;
    bool any = false;
    for (size_t i = 0; i < text.size();) {
      size_t length = 0;
      char_at(text, i, &length);
      if (loose_punctuation(text, i) == 0 || (!any && is_decimal_point(text, i))) {
        if (!any) begin = i;
        any = true;
        end = i + length;
      }
      i += length;
    }
    text = text.substr(begin, end - begin);
    if (!is_bracketed(text)) return text;
    text = text.substr(1, text.size() - 2);
  }
}

// Canonical composition and, with `ignore_case`, full case folding. Text that is not UTF-8 keeps
// all but the case of its ASCII letters.
std::string folded(const std::string& text, bool ignore_case) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return !(c & 0x80); }))
    return ignore_case ? lower_case(text) : text;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE |
                                                      (ignore_case ? UTF8PROC_CASEFOLD : 0));
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped, options);
  if (length < 0) return ignore_case ? lower_case(text) : text;
  std::string out(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
  std::free(mapped);
  return out;
}

}  // namespace

std::string plain_punctuation(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      out += text[i];
    } else if (const Spelling* quote = find_spelling(kQuotes, text.substr(i))) {
      out += quote->ascii;
      length = quote->unicode.size();
    } else {
      const utf8proc_int32_t c = char_at(text, i, &length);
      if (c < 0)
        out += text[i];
      else
        add_plain(c, text.substr(i, length), &out);
    }
    i += length;
  }
  return folded(out, false);
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = to_lower(c);
  return out;
}

std::string fold_case(std::string_view text, std::vector<size_t>* from) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t length = 0;
    char_at(text, i, &length);
    out += folded(std::string(text.substr(i, length)), true);
    from->resize(out.size(), i);
    i += length;
  }
  from->push_back(text.size());
  return out;
}

std::string normalise(std::string_view text, bool ignore_case) {
  const std::string plain = folded(plain_punctuation(text), ignore_case);
  std::string out;
  for (size_t i = 0; i < plain.size();) {
    if (const Spelling* stop = find_spelling(kStops, std::string_view(plain).substr(i))) {
      out += stop->ascii;
      i += stop->unicode.size();
      continue;
    }
    const char c = plain[i++];
    if (!is_space(c))
      out += c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  const std::string_view core = core_of(out);
  return core.empty() ? out : std::string(core);
}

std::string without_stray_bracket(const std::string& form) {
  std::string_view inner = form;
  const auto partner = [&](char of, std::string_view mine, std::string_view other) {
    const size_t kind = mine.find(of);
    return kind == mine.npos || inner.find(other[kind]) != inner.npos;
  };
  constexpr std::string_view kOpening = "([{", kClosing = ")]}";
  if (!inner.empty() && !partner(inner.front(), kOpening, kClosing))
    inner.remove_prefix(1);
  else if (!inner.empty() && !partner(inner.back(), kClosing, kOpening))
    inner.remove_suffix(1);
  return inner.size() == form.size() || inner.empty() ? form : normalise(inner, false);
}

std::string bare_label(std::string_view text) {
  std::string out = normalise(text, true);
  constexpr size_t kLongest = 256;  // bytes of what may be a label: each round reads all of it
  if (out.size() > kLongest) return out;
  for (;;) {
    std::string_view inner = out;
    for (const std::string_view brackets : {kOpen, kClose}) {
      while (!inner.empty() && brackets.find(inner.front()) != brackets.npos)
        inner.remove_prefix(1);
      while (!inner.empty() && brackets.find(inner.back()) != brackets.npos) inner.remove_suffix(1);
    }
    if (inner.empty() || inner.size() == out.size()) return out;
    out = normalise(inner, true);
  }
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
