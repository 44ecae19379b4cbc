#include "rl/denial.h"

#include <algorithm>
#include <initializer_list>

#include "rl/ascii.h"

namespace svfleet {
namespace {

using Words = std::initializer_list<std::string_view>;

bool is_one_of(std::string_view word, const Words& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_letter_of_word(char c) {
  return is_word(c) || c == '\'';  // isn't
}

constexpr std::string_view kAround = " \t*_\"`()[]{}$\\-";

// What may stand between a denial and the answer that it denies.
bool is_filler(std::string_view word) {
  return word.size() == 1 ||
         is_one_of(word, {"option",   "choice", "answer", "label",  "letter",   "the",
                          "a",        "an",     "be",     "choose", "pick",     "select",
                          "say",      "likely", "really", "go",     "actually", "with",
                          "think",    "it",     "is",     "it's",   "that",     "believe",
                          "possibly", "would",  "of",     "for",    "correct",  "right",
                          "out",      "or",     "text",   "boxed",  "want",     "to"});
}

bool is_not(std::string_view word) {
  return word == "not" || word == "never" || word == "cannot" || word.ends_with("n't");
}

// The word at `i`, which moves behind it; empty at the end of the clause.
std::string_view next_word(std::string_view text, size_t* i) {
  while (*i < text.size() && kAround.find(text[*i]) != std::string_view::npos) ++*i;
  const size_t first = *i;
  while (*i < text.size() && is_letter_of_word(text[*i])) ++*i;
  return text.substr(first, *i - first);
}

}  // namespace

bool is_denied_before(std::string_view text, size_t begin) {
  size_t end = begin;
  for (int words = 0; words < 6; ++words) {
    while (end > 0 && kAround.find(text[end - 1]) != std::string_view::npos) --end;
    size_t first = end;
    while (first > 0 && is_letter_of_word(text[first - 1])) --first;
    const std::string_view word = text.substr(first, end - first);
    if (word.empty()) return false;
    if (is_not(word) || is_one_of(word, {"nor", "neither", "except", "excluding", "wrong",
                                         "incorrect", "unlike", "instead", "than", "eliminate",
                                         "eliminates", "exclude", "reject", "rule"}))
      return true;
    if (!is_filler(word)) return false;
    end = first;
  }
  return false;
}

bool is_denied_after(std::string_view text, size_t end) {
  bool negated = false;
  for (int words = 0; words < 6; ++words) {
    const std::string_view word = next_word(text, &end);
    if (word == "cannot" || word == "can't") return true;
    if (is_one_of(word, {"wrong", "incorrect", "false", "untrue", "impossible", "eliminated",
                         "excluded", "ruled"}))
      return !negated;
    if (negated && is_one_of(word, {"right", "correct", "true", "it", "valid", "possible", "answer",
                                    "choice", "option", "best"}))
      return true;
    if (is_not(word))
      negated = true;
    else if (!is_one_of(word, {"is",        "was",  "are",       "were",  "seems",   "looks",
                               "would",     "be",   "can",       "must",  "clearly", "definitely",
                               "obviously", "also", "therefore", "both",  "simply",  "the",
                               "a",         "an",   "option",    "choice"}))
      return false;
  }
  return false;
}

}  // namespace svfleet
