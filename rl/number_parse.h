// Numbers as language models and answer keys write them.
//
// What is one number:
//   72   -3   +5   1,234,567   3.14   .5   42.       a trailing dot ends the sentence
//   $1,200   -$5   $-5   €7   45%   45^\circ         currency, percent and degree signs are dropped
//   10,\!080   10{,}080   10\,080   10 080           LaTeX and thin or no-break blanks as thousands
//   3/4   \frac{3}{4}   \dfrac34   1 1/2             fractions and mixed numbers, by value
//   1.5e3   1.5 \times 10^{3}   1.5 × 10^3   10^6    scientific notation
//   ½   1½   10³   1⁄2                               as 1/2, 1 1/2, 10^3, 1/2
//   72km   5 kg                                      units are passed over
//   − and – directly before a number count as minus, unless a letter, digit or bracket precedes
// What is not:
//   1,2,3 is three numbers, 1, 2 and 3; groups of three digits without blanks are thousands
//   1.2.3 and 12.05.2020 are none; 12/05/2020 is three
//   x2, H2O, m^2, a_1: digits glued to letters, exponents and subscripts are none
//   5th, the 3rd: an ordinal is none
//   48/2, \frac{48}{2}, 2^10, \sqrt{16}, sqrt(16), 3\pi, 3x: work left undone
//   2.5 million, 5k, 12'500, 12_500, 0x1F, or 12 500 with a common blank: what is not read
// The last two kinds have no value, and a reply that ends on one has no number: none rather than a
// wrong one. Words (seventy) are not read.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace svfleet {

// The number that a reply states. The last of its markers decides: "#### N" (a heading such as
// "#### 1. Add" is no marker) or \boxed{...}, which states one when it holds one number (behind its
// last equals sign) and no sum, product or comparison. Without markers: the last number of the
// text.
std::optional<double> final_number(std::string_view text);

// The number of an answer key: that of its marker, else the text must be one number and no more
// (blanks, $, *, brackets and a trailing dot around it are allowed).
std::optional<double> gold_number(std::string_view text);

// Whether the reply states the number of the answer key, give or take `tolerance`. Below a
// tolerance of 1, whole numbers are equal only when all of their digits are.
bool same_number(std::string_view reply, std::string_view gold, double tolerance);

// The number that the reply states, in one spelling for numbers that count as equal: below a
// tolerance of 1 a whole number by all of its digits, others rounded to multiples of the tolerance
// (which, unlike "give or take", sorts numbers into classes).
std::optional<std::string> spelt_number(std::string_view reply, double tolerance);

}  // namespace svfleet
