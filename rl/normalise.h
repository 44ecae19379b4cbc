// One form for texts that a reader would call the same answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// Case folded (where `ignore_case`) and composed as Unicode says, full and half width made equal,
// typographic quotes, dashes and blanks as plain ones, runs of blanks as one space, no blanks and
// no punctuation of any script at the ends (of ASCII: .,;:!?'"`*_, but for the point of ".5"), and
// no brackets ()[]{}<> round all of it: one without its partner, as in "[0, 1)" or "<3", says
// something. A text of punctuation alone keeps it. Articles, accents, superscripts and digits of
// other scripts stay.
std::string normalise(std::string_view text, bool ignore_case);

// A normal form without one bracket ()[]{} at either end that has no partner in it.
std::string without_stray_bracket(const std::string& form);

// The same of a choice's label, which has no brackets at its ends: "B)" and "(B" are B.
std::string bare_label(std::string_view text);

// Quotes, dashes, minus signs, blanks and full or half width in their ASCII forms, no invisible
// characters, composed; the rest unchanged.
std::string plain_punctuation(std::string_view text);

std::string lower_case(std::string_view text);  // ASCII letters

// Case folded letter by letter; `from` becomes the place in `text` of each byte, and of the end.
std::string fold_case(std::string_view text, std::vector<size_t>* from);

// The content of the last complete \boxed{...}; `begin` is where it starts. False when there is
// none.
bool last_boxed(std::string_view text, std::string_view* content, size_t* begin);

}  // namespace svfleet
