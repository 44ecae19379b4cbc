#include "coordinator/adaptation/bag_of_words.h"

#include <cctype>
#include <cmath>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr int64_t kMostItems = 1000;

bool is(int (*kind)(int), char c) {
  return kind(static_cast<unsigned char>(c)) != 0;
}

// A byte inside a character of UTF-8.
bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at++;
    if (is(std::isspace, text[begin])) continue;
    if (is(std::isdigit, text[begin])) {
      while (at < text.size() && is(std::isdigit, text[at])) ++at;
      words.emplace_back("0");
    } else if (is(std::isalpha, text[begin])) {
      while (at < text.size() && is(std::isalpha, text[at])) ++at;
      std::string& word = words.emplace_back(text.substr(begin, at - begin));
      for (char& c : word) c = char(std::tolower(static_cast<unsigned char>(c)));
    } else {
      while (at < text.size() && continues(text[at])) ++at;
      words.emplace_back(text.substr(begin, at - begin));
    }
  }
  return words;
}

void BagOfWords::learn(std::string_view text, size_t label) {
  ++texts_.at(label);
  for (const std::string& word : words_of(text)) {
    ++words_[label][word];
    ++totals_[label];
    ++vocabulary_[word];
  }
}

size_t BagOfWords::label(std::string_view text) const {
  const std::vector<std::string> words = words_of(text);
  size_t best = 0;
  double best_worth = -HUGE_VAL;
  for (size_t i = 0; i < texts_.size(); ++i) {
    if (texts_[i] == 0) continue;
    const double all = double(totals_[i]) + double(vocabulary_.size());
    double worth = std::log(double(texts_[i]));
    for (const std::string& word : words) {
      const auto found = words_[i].find(word);
      worth += std::log((found == words_[i].end() ? 1.0 : double(found->second + 1)) / all);
    }
    if (worth > best_worth) best = i, best_worth = worth;
  }
  return best;
}

BagOfWords learned_words(const Config& config, const ExpertSet& set) {
  BagOfWords words(set.members.size() + 1);
  for (const TaskSpec& spec : config.tasks) {
    if (spec.train.empty()) continue;
    try {
      for (const Item& item : load_task(spec, "train", kMostItems).items)
        words.learn(item.question, set.owner_of(spec.name));
    } catch (const Error&) {
    }
  }
  return words;
}

}  // namespace svfleet
