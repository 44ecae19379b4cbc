// What plain words say of whose a prompt is: the baseline that a choice by a model is held against.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/config/config.h"
#include "coordinator/config/expert_set.h"

namespace svfleet {

// Lower-case words, runs of digits as "0", other characters one by one.
std::vector<std::string> words_of(std::string_view text);

// Naive Bayes with add-one smoothing over the words of a text; the first of equal labels.
class BagOfWords {
 public:
  explicit BagOfWords(size_t labels) : texts_(labels), words_(labels), totals_(labels) {}
  void learn(std::string_view text, size_t label);
  size_t label(std::string_view text) const;
  bool knows_any() const { return !vocabulary_.empty(); }

 private:
  std::vector<int64_t> texts_;  // of each label
  std::vector<std::map<std::string, int64_t>> words_;
  std::vector<int64_t> totals_;  // words of each label
  std::map<std::string, int64_t> vocabulary_;
};

// Of the train splits of the configuration's tasks, 1,000 items of each at most; one without a
// train split that can be read teaches nothing.
BagOfWords learned_words(const Config& config, const ExpertSet& set);

}  // namespace svfleet
