// Regular expressions as tokenizer.json writes them (Oniguruma's Ruby syntax), run on PCRE2 with
// its just-in-time compiler. Thread-safe once made.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

struct Span {
  size_t begin, end;  // bytes
};

class Regex {
 public:
  // `where` names the place in the file, for errors: Error(kExitUser) where the pattern is wrong or
  // uses what means something else, or nothing, to PCRE2.
  static Regex from_onig(std::string_view pattern, const std::string& where);
  static Regex literal(std::string_view text, const std::string& where);
  static Regex from_pcre2(std::string_view pattern, const std::string& where);

  // All matches from left to right, as Rust's find_iter: an empty one is not taken directly behind
  // the one before. The text must be valid UTF-8.
  std::vector<Span> find_all(std::string_view text) const;
  bool matches_at_start(std::string_view text) const;

 private:
  struct Code;
  Regex(std::string_view pattern, unsigned options, const std::string& where);
  bool find(std::string_view text, size_t from, unsigned options, Span& span) const;
  std::shared_ptr<const Code> code_;
};

// The PCRE2 pattern (UTF and UCP) that matches what Oniguruma's `pattern` does.
std::string translate_onig(std::string_view pattern, const std::string& where);

// The inside of a PCRE2 class for one of Unicode's general categories ("L", "Nd"), including the
// characters that are too new for PCRE2.
std::string category_class(std::string_view category);

}  // namespace svfleet
