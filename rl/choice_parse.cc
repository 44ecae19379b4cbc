#include "rl/choice_parse.h"

#include <algorithm>
#include <set>

#include "rl/ascii.h"
#include "rl/denial.h"
#include "rl/normalise.h"
#include "rl/phrase.h"

namespace svfleet {
namespace {

constexpr std::string_view kOpening = " \t\r\n*_\"'`([{<:=-$>";

bool contains(std::initializer_list<std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

size_t skip(std::string_view text, size_t i, std::string_view set) {
  while (i < text.size() && set.find(text[i]) != std::string_view::npos) ++i;
  return i;
}

// The letters and digits at i.
std::string_view word_at(std::string_view text, size_t i) {
  size_t end = i;
  while (is_word(at(text, end))) ++end;
  return i < text.size() ? text.substr(i, end - i) : std::string_view();
}

class Reader {
 public:
  Reader(const std::vector<std::string>& labels, const std::vector<std::string>& choices)
      : labels_(labels), choices_(choices) {}

  // Rules 1 to 6 of the header in turn.
  std::optional<int> read(std::string_view reply) const {
    std::string_view boxed;
    size_t begin = 0;
    if (last_boxed(reply, &boxed, &begin)) {
      for (std::string_view wrapper : {"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{"})
        if (boxed.starts_with(wrapper)) boxed = boxed.substr(wrapper.size());
      if (is_ambiguous(boxed)) return std::nullopt;
      if (const auto found = whole(boxed)) return found;
    }
    if (is_ambiguous(reply)) return std::nullopt;
    if (const auto found = whole(reply)) return found;
    if (const std::set<int> found = after_answer(reply); !found.empty())
      return by_label(single(found), reply);
    if (const auto found = single(after_option(reply))) return by_label(found, reply);
    if (const auto found = single(at_line_start(reply))) return by_label(found, reply);
    return mentioned(reply);
  }

 private:
  static std::optional<int> single(const std::set<int>& found) {
    return found.size() == 1 ? std::optional(*found.begin()) : std::nullopt;
  }

  // The label of one choice is the text of another one ("3"), and names both.
  bool is_label_and_text(const std::string& core) const {
    for (size_t i = 0; i < labels_.size(); ++i)
      for (size_t j = 0; j < choices_.size(); ++j)
        if (i != j && core == bare_label(labels_[i]) && core == bare_label(choices_[j]))
          return true;
    return false;
  }
  bool is_ambiguous(std::string_view text) const { return is_label_and_text(bare_label(text)); }
  // A label that is also another choice's text settles only with its own choice's text beside it.
  std::optional<int> by_label(std::optional<int> found, std::string_view reply) const {
    if (!found || !is_label_and_text(bare_label(labels_[*found]))) return found;
    const std::string own = normalise(choices_[*found], true);
    return has_phrase(normalise(reply, true), own) ? found : std::nullopt;
  }

  std::optional<int> whole(std::string_view text) const {
    const std::string bare = bare_label(text);
    for (size_t i = 0; i < labels_.size(); ++i)
      if (bare == bare_label(labels_[i])) return static_cast<int>(i);
    // Brackets may be all that tells two choices apart ("(0,1)", "[0,1]").
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    std::set<int> same;
    for (size_t i = 0; i < choices_.size(); ++i)
      if (text == plain_punctuation(choices_[i])) same.insert(static_cast<int>(i));
    if (const auto found = single(same)) return found;
    // Case decides where it is all that tells two choices apart ("Ww", "WW").
    for (const bool ignore_case : {false, true}) {
      const std::string form = normalise(text, ignore_case);
      std::set<int> equal;
      for (size_t i = 0; i < choices_.size(); ++i)
        if (form == normalise(choices_[i], ignore_case)) equal.insert(static_cast<int>(i));
      if (const auto found = single(equal)) return found;
    }
    return label_and_text(normalise(text, true));
  }

  // "b. iron", "(b) iron": label and text of the same choice.
  std::optional<int> label_and_text(std::string_view core) const {
    core.remove_prefix(skip(core, 0, "([{<"));
    const size_t after = core.find_first_of(".):]}>- ");
    if (after == std::string_view::npos) return std::nullopt;
    const std::string label = bare_label(core.substr(0, after)),
                      text = normalise(core.substr(skip(core, after, ".):]}>")), true);
    for (size_t i = 0; i < labels_.size(); ++i)
      if (label == bare_label(labels_[i]) && text == normalise(choices_[i], true))
        return static_cast<int>(i);
    return std::nullopt;
  }

  // The label that stands at i, its end in `end`; -1 when none does.
  int label_at(std::string_view text, size_t i, size_t* end) const {
    const std::string_view word = word_at(text, i);
    if (word.empty() || (i > 0 && is_word(text[i - 1]))) return -1;
    for (size_t k = 0; k < labels_.size(); ++k) {
      if (word != labels_[k]) continue;
      *end = i + word.size();
      const char next = at(text, *end), second = at(text, *end + 1);
      // 3.5, 3,000, 3/4 and A's are no labels.
      if (is_digit(word[0]) && (next == '.' || next == ',' || next == '/') && is_digit(second))
        return -1;
      if (next == '\'' && is_letter(second)) return -1;
      return static_cast<int>(k);
    }
    return -1;
  }

  // "A lion": the label from `begin` to `end` is an article.
  static bool is_article(std::string_view text, size_t begin, size_t end, bool any_case) {
    const std::string_view word = text.substr(begin, end - begin);
    if ((word != "A" && word != "I") || at(text, end) != ' ') return false;
    const std::string_view next = word_at(text, end + 1);
    if (next.empty() || !is_letter(next[0]) || (is_upper(next[0]) && !any_case)) return false;
    return !contains({"is", "was", "are", "because", "since", "as", "and", "or", "would", "for"},
                     next);
  }

  // "It is not B", "B is wrong", "A and B are wrong".
  bool is_denied(std::string_view text, size_t begin, size_t end) const {
    const std::string lower = lower_case(text);
    if (is_denied_before(lower, begin) || is_denied_after(lower, end)) return true;
    std::set<int> rivals;
    const size_t last = add_rivals(text, end, &rivals);
    return last > end && is_denied_after(lower, last);
  }

  // Adds the label at i, and one that is offered beside it: "A or B", "A, B", "A and B".
  void add_with_rivals(std::string_view text, int label, size_t end, std::set<int>* found) const {
    found->insert(label);
    add_rivals(text, end, found);
  }
  // Returns the end of the last one.
  size_t add_rivals(std::string_view text, size_t end, std::set<int>* found) const {
    for (size_t last = end;;) {
      const size_t closed = skip(text, end, ")]*_\"'`");
      size_t i = skip(text, closed, " \t,/&");
      const bool listed = text.substr(closed, i - closed).find_first_of(",/&") != std::string::npos;
      const std::string_view word = word_at(text, i);
      const bool joined = word == "or" || word == "and";
      if (joined) i += word.size();
      if (!joined && !listed) return last;
      i = skip(text, i, " \t([*_\"'`");
      const int rival = label_at(text, i, &end);
      if (rival < 0 || is_article(text, i, end, true)) return last;
      found->insert(rival);
      last = end;
    }
  }

  // The label that follows a word ending at i, over words that may stand between.
  bool follows(std::string_view text, size_t i, std::set<int>* found) const {
    for (;;) {
      const bool escaped = at(text, i) == '\\';  // \( \text{ \boxed{
      i = skip(text, escaped ? i + 1 : i, kOpening);
      size_t end = 0;
      const int label = label_at(text, i, &end);
      if (label >= 0) {
        if (is_article(text, i, end, false) || is_denied(text, i, end)) return false;
        add_with_rivals(text, label, end, found);
        return true;
      }
      const std::string_view word = word_at(text, i);
      if (word.empty() && at(text, i) == '\\') continue;
      if (word.empty() ||
          !contains({"is",        "are",   "was",     "be",       "would",  "should", "must",
                     "the",       "to",    "this",    "question", "letter", "number", "option",
                     "choice",    "final", "correct", "right",    "best",   "most",   "likely",
                     "therefore", "s",     "text",    "boxed",    "mathrm", "textbf", "mathbf"},
                    lower_case(word)))
        return false;
      i += word.size();
    }
  }

  std::set<int> after_answer(std::string_view text) const {
    const std::string lower = lower_case(text);
    constexpr std::string_view kAnswer = "answer";
    for (size_t i = lower.rfind(kAnswer); i != std::string::npos;
         i = i == 0 ? std::string::npos : lower.rfind(kAnswer, i - 1)) {
      std::set<int> found;
      if (follows(text, i + kAnswer.size(), &found)) return found;
    }
    return {};
  }

  std::set<int> after_option(std::string_view text) const {
    const std::string lower = lower_case(text);
    std::set<int> found;
    for (std::string_view trigger : {"option", "choice", "choose", "select", "pick"})
      for (size_t i = lower.find(trigger); i != std::string::npos; i = lower.find(trigger, i + 1))
        follows(text, i + trigger.size(), &found);
    return found;
  }

  std::set<int> at_line_start(std::string_view text) const {
    std::set<int> found;
    bool first_line = true;
    for (size_t line = 0; line < text.size();) {
      size_t next = text.find('\n', line);
      if (next == std::string_view::npos) next = text.size();
      const std::string_view row = text.substr(line, next - line);
      line = next + 1;
      const size_t i = skip(row, 0, " \t\r*_\"'`([");
      if (i == row.size()) continue;
      size_t end = 0;
      const int label = label_at(row, i, &end);
      const char after = at(row, end);
      const bool dash = after == ' ' && at(row, end + 1) == '-';
      const bool delimited =
          label >= 0 && (after == '\0' || after == '\r' || dash ||
                         std::string_view(".):],*").find(after) != std::string_view::npos);
      if (delimited && !is_denied(row, i, skip(row, end, ".):],* -")))
        add_with_rivals(row, label, end, &found);
      if (first_line && !delimited) return {};
      first_line = false;
    }
    // Several labels at line starts are a list of the choices, not a decision.
    return found;
  }

  std::optional<int> mentioned(std::string_view reply) const {
    std::string text(reply);
    const std::optional<int> by_text = mentioned_text(&text);
    if (by_text && is_label_and_text(normalise(choices_[*by_text], true))) return std::nullopt;
    std::set<int> bracketed, alone;
    for (size_t i = 0; i < text.size(); ++i) {
      size_t end = 0;
      const int label = label_at(text, i, &end);
      if (label < 0 || is_denied(text, i, end)) continue;
      const char before = i > 0 ? text[i - 1] : ' ';
      if ((before == '(' && at(text, end) == ')') || (before == '[' && at(text, end) == ']')) {
        bracketed.insert(label);
      } else if (is_letter(text[i]) && before != '\'' && !is_article(text, i, end, true)) {
        alone.insert(label);
      }
    }
    std::optional<int> label = single(bracketed);
    if (!label && bracketed.empty()) label = single(alone);
    label = by_label(label, reply);
    if (by_text && label && *by_text != *label) return std::nullopt;
    return by_text ? by_text : label;
  }

  // The one choice whose text stands in the reply as whole words and is not denied; a text inside
  // another one that was found ("lion" in "sea lion") does not count. Blanks out what it finds, so
  // that the C of "Vitamin C" is no label.
  std::optional<int> mentioned_text(std::string* reply) const {
    std::vector<size_t> from;
    std::string left = fold_case(*reply, &from);
    const std::string all = left;
    std::vector<std::pair<std::string, int>> texts;  // longest first
    for (size_t k = 0; k < choices_.size(); ++k)
      texts.emplace_back(normalise(choices_[k], true), static_cast<int>(k));
    std::stable_sort(texts.begin(), texts.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
    std::set<int> found;
    std::string_view blanked;
    for (const auto& [text, k] : texts) {
      if (text.empty()) continue;
      if (text == blanked) found.insert(k);  // two choices of one text: neither can be meant
      for (size_t i = left.find(text); i != std::string::npos; i = left.find(text, i + 1)) {
        const size_t end = i + text.size();
        if (!stands_alone(left, i, end)) continue;
        left.replace(i, text.size(), text.size(), '\x01');
        reply->replace(from[i], from[end] - from[i], from[end] - from[i], '\x01');
        if (is_denied_before(all, i) || is_denied_after(all, end)) continue;
        found.insert(k);
        blanked = text;
      }
    }
    return single(found);
  }

  const std::vector<std::string>& labels_;
  const std::vector<std::string>& choices_;
};

}  // namespace

std::optional<int> chosen(std::string_view reply, const std::vector<std::string>& labels,
                          const std::vector<std::string>& choices) {
  return Reader(labels, choices).read(plain_punctuation(reply));
}

}  // namespace svfleet
