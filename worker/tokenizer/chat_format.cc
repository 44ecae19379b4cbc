#include "worker/tokenizer/chat_format.h"

#include "comm/error.h"
#include "worker/tokenizer/chat_turns.h"

namespace svfleet {
namespace {

constexpr std::string_view kContent = "{content}";

std::string filled(const std::string& piece, const std::string& content) {
  const size_t at = piece.find(kContent);
  SVFLEET_CHECK(at != piece.npos, "the piece '", piece, "' has no ", kContent);
  return piece.substr(0, at) + content + piece.substr(at + kContent.size());
}

// The piece must hold {content}, once.
std::string piece_problem(const char* name, const std::string& piece) {
  const size_t at = piece.find(kContent);
  if (at == piece.npos) return std::string(name) + " must hold {content}";
  if (piece.find(kContent, at + 1) != piece.npos)
    return std::string(name) + " must hold {content} once";
  return "";
}

}  // namespace

bool is_given(const ChatFormat& format) {
  return format != ChatFormat();
}

std::string chat_format_problem(const ChatFormat& format) {
  if (auto problem = piece_problem("user", format.user); !problem.empty()) return problem;
  if (auto problem = piece_problem("assistant", format.assistant); !problem.empty()) return problem;
  if (format.system.empty())
    return format.default_system.empty() ? "" : "default_system needs the piece system";
  return piece_problem("system", format.system);
}

std::string render(const ChatFormat& format, const Messages& messages) {
  std::string text = format.begin;
  if (!format.default_system.empty() && !has_system(messages))
    text += filled(format.system, format.default_system);
  for (const auto& m : messages) {
    if (m.role == "system" && format.system.empty())
      throw user_error("model.chat_format has no piece for a system message; add system to it, or ",
                       "change the task's system prompt");
    text += filled(m.role == "system" ? format.system
                   : m.role == "user" ? format.user
                                      : format.assistant,
                   m.content);
  }
  return text + format.answer;
}

std::string turn_end(const ChatFormat& format) {
  return strip(std::string(behind_last(format.assistant, kContent)));
}

}  // namespace svfleet
