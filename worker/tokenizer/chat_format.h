// A chat format written down piece by piece, for models whose template svfleet does not know.
#pragma once

#include <string>

#include "worker/tokenizer/chat_families.h"

namespace svfleet {

// Each message is its role's piece with {content} replaced, in the order of the messages.
struct ChatFormat {
  std::string begin;           // written first of all, such as the bos token
  std::string system;          // empty: a system message is refused
  std::string user;            // empty: no format is given
  std::string assistant;       // what follows {content} ends a turn
  std::string answer;          // where the assistant's answer starts
  std::string default_system;  // content of a system message where a chat has none; empty: none
  bool operator==(const ChatFormat&) const = default;
};

bool is_given(const ChatFormat& format);  // any piece of it
// What is wrong with a format that is given, beginning with the name of the piece, or empty.
std::string chat_format_problem(const ChatFormat& format);
// Error(kExitUser) for a system message where there is no piece for it. `messages` is not empty.
std::string render(const ChatFormat& format, const Messages& messages);
// The token that ends the assistant's turn.
std::string turn_end(const ChatFormat& format);

}  // namespace svfleet
