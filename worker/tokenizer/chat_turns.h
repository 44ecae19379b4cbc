// What the chat templates share: Python's ways to strip a text, and the order of the turns.
#pragma once

#include <string>
#include <string_view>

#include "worker/tokenizer/chat_families.h"

namespace svfleet {

// Python's str.strip() and str.rstrip(): white space and the four separators.
std::string strip(const std::string& text);
std::string rstrip(const std::string& text);
// str.lstrip('\n') and str.rstrip('\n').
std::string_view without_leading_newlines(std::string_view text);
std::string_view without_trailing_newlines(std::string_view text);
// str.split(mark)[-1]: what stands behind the last `mark`, or all of the text.
std::string_view behind_last(std::string_view text, std::string_view mark);

bool has_system(const Messages& messages);
// Where the turns begin: behind a system message.
size_t first_turn(const Messages& messages);
// Error(kExitUser) unless, after an optional system message where that is allowed, the roles are
// user, assistant, user, ...
void check_turns(const Messages& messages, bool system_allowed, const char* name);
// Error(kExitUser) for a system message that is not the first, where the template drops it.
void refuse_late_system(const Messages& messages, const char* name);

}  // namespace svfleet
