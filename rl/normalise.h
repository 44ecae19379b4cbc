// One form for texts that a reader would call the same answer.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

// Lower case (ASCII letters; nothing where `ignore_case` is false), typographic quotes, dashes and
// blanks as plain ones, runs of blanks as one space, no blanks and no punctuation at the ends
// (.,;:!?'"`*_()[]{}<>). A text of punctuation alone keeps it. Articles stay.
std::string normalise(std::string_view text, bool ignore_case);

// Typographic quotes, dashes, minus signs and blanks as their ASCII forms; the rest unchanged.
std::string plain_punctuation(std::string_view text);

std::string lower_case(std::string_view text);  // ASCII letters

// The content of the last complete \boxed{...}; `begin` is where it starts. False when there is
// none.
bool last_boxed(std::string_view text, std::string_view* content, size_t* begin);

}  // namespace svfleet
