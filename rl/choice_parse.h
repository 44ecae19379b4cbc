// Which choice of a multiple-choice question a reply settles on.
//
// Rules in this order; the first that applies decides, and a reply that offers two labels where
// one is asked for ("A or B") has none:
//   1. \boxed{B}: its content, read by rules 2 and 3.
//   2. The reply is a label, in either case, give or take punctuation: B  b  (B)  **B.**
//   3. The reply is the text of one choice; else give or take case and punctuation.
//   4. The last "answer" that a label follows: "The answer is (B)", "Answer: B. Iron"; else the
//      same after option, choice, choose, select or pick, where all of these name one label.
//   5. The first line starts with a label and a delimiter: "B. Iron", "B) Iron", "(B) Iron",
//      "B - Iron", a line "B"; and no other line starts with another label.
//   6. The one choice whose text the reply mentions, and the one label that stands alone in it
//      (letters in capitals, digits only in brackets); when both are there they must agree.
// A label or text that is denied ("not B", "B is wrong", "instead of B") is passed over from rule 4
// on. A label that is also the text of another choice names neither, unless its own choice's text
// stands beside it.
// From rule 4 on a label has the case of the question. An "A" (or "I") before a blank and a
// lower-case word is the article, unless that word is a verb or conjunction such as is, because,
// and; in rule 6 a capitalised word counts too.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// Index into `labels` (and `choices`, their texts). Nothing when the reply does not settle.
std::optional<int> chosen(std::string_view reply, const std::vector<std::string>& labels,
                          const std::vector<std::string>& choices);

}  // namespace svfleet
