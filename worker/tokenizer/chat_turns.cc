#include "worker/tokenizer/chat_turns.h"

#include <algorithm>

#include "comm/error.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

// Where the text begins and ends without white space around it.
struct Inside {
  size_t begin, end;
};
Inside inside(const std::string& text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = next_char(text, at);
    if (is_white_space(c) || (c >= 0x1c && c <= 0x1f)) continue;
    begin = std::min(begin, start);
    end = at;
  }
  return {std::min(begin, end), end};
}

}  // namespace

std::string strip(const std::string& text) {
  const auto [begin, end] = inside(text);
  return text.substr(begin, end - begin);
}

std::string rstrip(const std::string& text) {
  return text.substr(0, inside(text).end);
}

std::string_view without_leading_newlines(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

std::string_view without_trailing_newlines(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

std::string_view behind_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == text.npos ? text : text.substr(at + mark.size());
}

bool has_system(const Messages& messages) {
  return messages[0].role == "system";
}

size_t first_turn(const Messages& messages) {
  return has_system(messages) ? 1 : 0;
}

void check_turns(const Messages& messages, bool system_allowed, const char* name) {
  const size_t first = system_allowed ? first_turn(messages) : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const char* wanted = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != wanted)
      throw user_error("message ", i + 1, " has the role '", messages[i].role,
                       "' where the chat template '", name, "' wants '", wanted,
                       system_allowed ? "'" : "' (it knows no system message)",
                       "; change the task's system prompt or examples");
  }
}

void refuse_late_system(const Messages& messages, const char* name) {
  for (size_t i = 1; i < messages.size(); ++i)
    if (messages[i].role == "system")
      throw user_error(
          "message ", i + 1, " has the role 'system', which the chat template '", name,
          "' knows at the beginning only; change the task's system prompt or examples");
}

}  // namespace svfleet
