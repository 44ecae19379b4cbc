#include "worker/tokenizer/pretokenize_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "comm/error.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[200];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* value) const {
    Free(value);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Freed<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Freed<pcre2_jit_stack_free>>;

// What one thread needs to match; the compiled pattern itself is shared.
struct Matching {
  JitStack stack{pcre2_jit_stack_create(32 * 1024, 16 * 1024 * 1024, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  MatchData data{pcre2_match_data_create(1, nullptr)};
  Matching() {
    if (!stack || !context || !data) throw std::bad_alloc();
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string where;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, unsigned options, const std::string& where) {
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->where = where;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             options | PCRE2_UTF, &error, &offset, context.get());
  if (!code->code)
    throw user_error(where, ": the regular expression is not valid: ", pcre2_message(error),
                     " (near character ", offset, "); repair or replace the file");
  // Without the compiler PCRE2 interprets: slower, same matches.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

Regex Regex::from_onig(std::string_view pattern, const std::string& where) {
  return Regex(translate_onig(pattern, where), PCRE2_UCP, where);
}
Regex Regex::literal(std::string_view text, const std::string& where) {
  return Regex(text, PCRE2_LITERAL, where);
}
Regex Regex::from_pcre2(std::string_view pattern, const std::string& where) {
  return Regex(pattern, PCRE2_UCP, where);
}

bool Regex::find(std::string_view text, size_t from, unsigned options, Span& span) const {
  thread_local Matching matching;
  // No UTF check: it would read the whole text again for each match.
  const int result =
      pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                  options | PCRE2_NO_UTF_CHECK, matching.data.get(), matching.context.get());
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    throw user_error(code_->where, ": the regular expression gave up on a text of ", text.size(),
                     " bytes: ", pcre2_message(result), "; use a shorter text");
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(matching.data.get());
  span = {ends[0], ends[1]};
  return true;
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  std::vector<Span> found;
  size_t from = 0;
  for (Span span; from <= text.size() && find(text, from, 0, span);) {
    if (span.begin == span.end && !found.empty() && found.back().end == span.end) {
      if (from == text.size()) break;
      next_char(text, from);
      continue;
    }
    found.push_back(span);
    from = span.end;
  }
  return found;
}

bool Regex::matches_at_start(std::string_view text) const {
  Span span;
  return find(text, 0, PCRE2_ANCHORED, span);
}

}  // namespace svfleet
