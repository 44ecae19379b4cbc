#include "worker/tokenizer/stop_strings.h"

#include <algorithm>
#include <utility>

#include "comm/error.h"

namespace svfleet {

StopMatcher::StopMatcher(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const auto& string : strings_)
    if (string.empty())
      throw user_error("a stop string is empty; remove it from the task's stop list");
  // The longest first, so that it wins where several end at the same byte.
  std::stable_sort(strings_.begin(), strings_.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
}

std::string StopMatcher::push(std::string_view text) {
  std::string shown;
  for (const char byte : text) {
    if (stopped_) break;
    held_ += byte;
    for (const auto& string : strings_) {
      if (!held_.ends_with(string)) continue;
      stopped_ = true;
      held_.resize(held_.size() - string.size());
      shown += held_;
      cut_ = shown_ + held_.size();
      held_.clear();
      break;
    }
    if (stopped_) break;
    // Hold back the longest end that begins a stop string.
    size_t hold = 0;
    for (const auto& string : strings_) {
      for (size_t n = std::min(held_.size(), string.size() - 1); n > hold; --n)
        if (held_.compare(held_.size() - n, n, string, 0, n) == 0) hold = n;
    }
    const size_t free = held_.size() - hold;
    shown.append(held_, 0, free);
    shown_ += free;
    held_.erase(0, free);
  }
  return shown;
}

std::string StopMatcher::finish() {
  shown_ += held_.size();
  return std::exchange(held_, "");
}

}  // namespace svfleet
