#define PCRE2_CODE_UNIT_WIDTH 8
#include "rl/pattern.h"

#include <pcre2.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "comm/error.h"
#include "rl/ascii.h"
#include "rl/fields.h"

namespace svfleet {
namespace {

struct Free {
  void operator()(pcre2_code* x) const { pcre2_code_free(x); }
  void operator()(pcre2_match_data* x) const { pcre2_match_data_free(x); }
  void operator()(pcre2_match_context* x) const { pcre2_match_context_free(x); }
};
using Code = std::unique_ptr<pcre2_code, Free>;

std::string reason(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

Code compile(const std::string& pattern, std::string* problem) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  Code compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &offset,
                              nullptr));
  if (!compiled)
    *problem = reason(code) + " at character " + std::to_string(offset) + " of '" + pattern + "'";
  return compiled;
}

// Compiled patterns live as long as the program: a run has a handful.
const pcre2_code* compiled(const std::string& pattern) {
  static std::mutex mutex;
  static std::map<std::string, Code> codes;
  const std::lock_guard lock(mutex);
  Code& code = codes[pattern];
  if (!code) {
    std::string problem;
    code = compile(pattern, &problem);
    if (!code) throw user_error("bad regular expression: ", problem);
  }
  return code.get();
}

// The name in the first {name} that is there as text: not escaped, nor a part of an escape, nor in
// brackets. It looks like a field of the item.
std::string literal_field(const std::string& pattern) {
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      ++i;  // whatever is escaped, and the braces of \p{L}
      if (i < pattern.size() && pattern[i] == 'Q')
        i = std::min(pattern.find("\\E", i), pattern.size());
      else if (i + 1 < pattern.size() && pattern[i + 1] == '{' && is_letter(pattern[i]))
        i = std::min(pattern.find('}', i), pattern.size());
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      if (pattern.substr(i + 1, 1) == "^") ++i;
      if (pattern.substr(i + 1, 1) == "]") ++i;
    } else if (c == '{') {
      const size_t close = pattern.find('}', i);
      if (close == std::string::npos) return "";
      const std::string name = pattern.substr(i + 1, close - i - 1);
      if (is_field_name(name)) return name;
    }
  }
  return "";
}

}  // namespace

std::string pattern_problem(const std::string& pattern) {
  std::string problem;
  compile(pattern, &problem);
  if (!problem.empty()) return "bad regular expression: " + problem;
  const std::string name = literal_field(pattern);
  if (name.empty()) return "";
  return "the pattern '" + pattern + "' has {" + name +
         "}: no field is filled into a pattern, what it finds is compared with the answer; for " +
         "braces as text write \\{" + name + "\\}";
}

std::optional<std::string> find_pattern(const std::string& pattern, std::string_view text) {
  const pcre2_code* code = compiled(pattern);
  const std::unique_ptr<pcre2_match_data, Free> match(
      pcre2_match_data_create_from_pattern(code, nullptr));
  const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
  SVFLEET_CHECK(match && context, "PCRE2 is out of memory");
  // Counted steps, not seconds: the same reply fails or passes on every machine.
  pcre2_set_match_limit(context.get(), 1'000'000);
  pcre2_set_depth_limit(context.get(), 100'000);
  pcre2_set_heap_limit(context.get(), 64 * 1024);       // KiB
  const char* bytes = text.empty() ? "" : text.data();  // PCRE2 refuses null
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(bytes), text.size(), 0, 0,
                             match.get(), context.get());
  if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
  // Too many steps on this reply: no match. An error would end the run for ever, since the same
  // reply comes again at every restart.
  if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT)
    return std::nullopt;
  if (rc < 0)
    throw user_error("the regular expression '", pattern, "' gave up on a reply of ", text.size(),
                     " bytes: ", reason(rc));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
  const uint32_t group = pcre2_get_ovector_count(match.get()) > 1 ? 1 : 0;
  // \K may put a match's begin behind its end.
  if (static_cast<uint32_t>(rc) <= group || ends[2 * group] == PCRE2_UNSET ||
      ends[2 * group] > ends[2 * group + 1])
    return std::string();
  return std::string(text.substr(ends[2 * group], ends[2 * group + 1] - ends[2 * group]));
}

}  // namespace svfleet
