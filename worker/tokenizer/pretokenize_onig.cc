// Only what is known to mean the same (or can be written so that it does) passes; the rest is
// refused by name, since a pattern that quietly means something else gives wrong ids.
#include <algorithm>
#include <array>

#include "comm/error.h"
#include "worker/tokenizer/pretokenize_regex.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

constexpr std::array<std::string_view, 34> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm",
    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

std::string in_quotes(std::string_view text) {
  return std::string("'").append(text).append("'");
}

std::string hex(char32_t c) {
  char text[16];
  std::snprintf(text, sizeof text, "\\x{%x}", static_cast<unsigned>(c));
  return text;
}
std::string range(char32_t first, char32_t last) {
  return first == last ? hex(first) : hex(first) + "-" + hex(last);
}

std::string space_class() {
  std::string inside;
  for (const auto& r : white_space_ranges()) inside += range(r.first, r.last);
  return inside;
}
std::string not_space_class() {
  std::string inside;
  char32_t next = 0;
  for (const auto& r : white_space_ranges()) {
    inside += range(next, r.first - 1);
    next = r.last + 1;
  }
  return inside + range(next, 0x10ffff);
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) piece();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw user_error(where_, ": ", what, " in the regular expression '", pattern_,
                     "' is not supported; only the syntax that the Llama 3, Qwen2.5, SmolLM2 and "
                     "GPT-2 tokenizers use is");
  }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool eat(std::string_view text) {
    if (pattern_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  bool caseless() const { return !groups_.empty() && groups_.back(); }

  void piece() {
    const char c = peek();
    if (c != '\\' && c != '[' && !std::isalnum(static_cast<unsigned char>(c))) last_literal_ = 0;
    if (c == '(') return group();
    if (c == '[') return char_class();
    if (c == '\\') return escape();
    if (c == '{') return interval();
    if (c == '^' || c == '$') refuse(in_quotes({&c, 1}));
    if (c == ')') {
      if (groups_.empty()) refuse("a ')' without '('");
      groups_.pop_back();
      out_ += c;
      ++at_;
      return;
    }
    if (c == '|' || c == '.' || c == '*' || c == '+' || c == '?') {
      out_ += c;
      ++at_;
      return;
    }
    literal(next_char(pattern_, at_));
  }

  void literal(char32_t c) {
    if (caseless()) {
      // Oniguruma also folds one character to several (ß and ss); PCRE2 does not.
      if (c >= 0x80) refuse("a letter beyond ASCII under (?i:");
      static constexpr std::string_view kFolds[] = {"ss", "st", "ff", "fi", "fl"};
      const char lower = static_cast<char>(std::tolower(static_cast<int>(c)));
      for (const auto fold : kFolds)
        if (last_literal_ == fold[0] && lower == fold[1]) refuse(in_quotes(fold) + " under (?i:");
      last_literal_ = lower;
    }
    out_ += c < 0x80 && std::isalnum(static_cast<int>(c)) ? std::string(1, static_cast<char>(c))
                                                          : hex(c);
  }

  void group() {
    static constexpr std::string_view kSame[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    for (const auto open : kSame) {
      if (!eat(open)) continue;
      out_ += open;
      groups_.push_back(caseless());
      return;
    }
    if (eat("(?i:")) {
      out_ += "(?i:";
      groups_.push_back(true);
      return;
    }
    if (peek(1) == '?' || peek(1) == '*') refuse(in_quotes(at_text(4)));
    out_ += "(?:";  // nothing here refers to a group by number
    ++at_;
    groups_.push_back(caseless());
  }
  // A piece of the pattern for an error: ASCII, not cut inside a character.
  std::string at_text(size_t length) const {
    std::string text;
    for (const char c : pattern_.substr(at_, length)) {
      if (static_cast<unsigned char>(c) >= 0x80) break;
      text += c;
    }
    return text;
  }

  void interval() {
    size_t end = at_ + 1;
    std::string low, high;
    while (end < pattern_.size() && std::isdigit(static_cast<unsigned char>(pattern_[end])))
      low += pattern_[end++];
    const bool comma = end < pattern_.size() && pattern_[end] == ',';
    if (comma) ++end;
    while (end < pattern_.size() && std::isdigit(static_cast<unsigned char>(pattern_[end])))
      high += pattern_[end++];
    if (end >= pattern_.size() || pattern_[end] != '}' || (low.empty() && high.empty()))
      refuse("a '{' that is no repeat count");
    const char next = end + 1 < pattern_.size() ? pattern_[end + 1] : '\0';
    if (next == '+' || next == '?') refuse(in_quotes(pattern_.substr(end, 2)));
    out_.append("{")
        .append(low.empty() ? "0" : low)
        .append(comma ? "," : "")
        .append(high)
        .append("}");
    at_ = end + 1;
  }

  void char_class() {
    out_ += '[';
    ++at_;
    if (eat("^")) out_ += '^';
    if (peek() == ']') refuse("an empty character class");
    bool may_start_range = false;
    while (peek() != ']') {
      if (at_ >= pattern_.size()) refuse("a '[' without ']'");
      if (peek() == '[') refuse("a class inside a class");
      if (eat("&&")) refuse("'&&'");
      if (peek() == '-' && peek(1) != ']' && may_start_range) {
        ++at_;
        if (peek() == '[') refuse("a class inside a class");
        out_ += '-';
        if (!class_item()) refuse("a range that ends in a class");
        may_start_range = false;
        continue;
      }
      if (peek() == '-' && peek(1) != ']' && out_.back() != '[' && out_.back() != '^')
        refuse("a '-' behind a class or range");
      may_start_range = class_item();
    }
    out_ += ']';
    ++at_;
  }

  // One character (true) or class (false) inside [].
  bool class_item() {
    if (peek() != '\\') {
      const char32_t c = next_char(pattern_, at_);
      if (caseless() && c >= 0x80) refuse("a letter beyond ASCII under (?i:");
      out_ += hex(c);
      return true;
    }
    char32_t c = 0;
    if (escaped_char(c)) {
      out_ += hex(c);
      return true;
    }
    bool negated = false;
    const std::string inside = escaped_class(negated);
    if (!negated)
      out_ += inside;
    else if (inside == space_class())
      out_ += not_space_class();
    else
      refuse("a negated property inside a class");
    return false;
  }

  void escape() {
    char32_t c = 0;
    if (escaped_char(c)) return literal(c);
    bool negated = false;
    const std::string inside = escaped_class(negated);
    out_.append(negated ? "[^" : "[").append(inside).append("]");
  }

  // Reads an escape that stands for one character, or leaves `at_` alone.
  bool escaped_char(char32_t& c) {
    const char kind = peek(1);
    static constexpr std::string_view kLetters = "tnrfvae0";
    static constexpr char32_t kMeans[] = {'\t', '\n', '\r', '\f', '\v', 7, 27, 0};
    if (const auto i = kLetters.find(kind); kind != '\0' && i != std::string_view::npos) {
      if (kind == '0' && std::isdigit(static_cast<unsigned char>(peek(2))))
        refuse("an octal escape");
      c = kMeans[i];
      at_ += 2;
      return true;
    }
    if (kind == 'x' || kind == 'u') return hex_char(c);
    if (kind == '\0') refuse("a '\\' at the end");
    if (std::isalnum(static_cast<unsigned char>(kind))) return false;
    ++at_;
    c = next_char(pattern_, at_);
    return true;
  }

  bool hex_char(char32_t& c) {
    const bool braces = peek(1) == 'x' && peek(2) == '{';
    const size_t wanted = peek(1) == 'u' ? 4 : braces ? 6 : 2;
    at_ += braces ? 3 : 2;
    size_t digits = 0;
    c = 0;
    for (; digits < wanted && std::isxdigit(static_cast<unsigned char>(peek())); ++digits, ++at_)
      c = c * 16 + static_cast<char32_t>(std::stoi(std::string(1, peek()), nullptr, 16));
    if (digits == 0 || (!braces && digits != wanted) || (braces && !eat("}")) || c > 0x10ffff ||
        (c >= 0xd800 && c < 0xe000) || (!braces && wanted == 2 && c >= 0x80))
      refuse("a hexadecimal escape");
    return true;
  }

  // The inside of the class that an escape such as \s or \p{L} stands for.
  std::string escaped_class(bool& negated) {
    const char kind = peek(1);
    negated = kind == 'S' || kind == 'D' || kind == 'P';
    if (kind == 's' || kind == 'S') {
      at_ += 2;
      return space_class();
    }
    if (caseless()) refuse("a property under (?i:");  // Oniguruma folds it
    if (kind == 'd' || kind == 'D') {
      at_ += 2;
      return category_class("Nd");
    }
    const size_t close = pattern_.find('}', at_);
    if ((kind != 'p' && kind != 'P') || peek(2) != '{' || close == std::string_view::npos)
      refuse(in_quotes(at_text(2)));
    auto name = pattern_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with("^")) {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end())
      refuse("the property " + in_quotes(name));
    at_ = close + 1;
    return category_class(name);
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  std::vector<bool> groups_;  // open groups; true = caseless
  char last_literal_ = 0;     // under (?i:, for the folds
};

}  // namespace

std::string category_class(std::string_view category) {
  std::string inside = std::string("\\p{").append(category).append("}");
  for (const auto& r : newer_ranges())
    if (std::string_view(r.category).starts_with(category)) inside += range(r.first, r.last);
  return inside;
}

std::string translate_onig(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace svfleet
