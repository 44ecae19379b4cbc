#include "comm/hand.h"

#include <algorithm>

#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {

std::optional<int> Hand::take() {
  // A no stays a no until it holds fewer: nobody polls.
  if (refused_at_ >= 0 && size() >= refused_at_) return std::nullopt;
  refused_at_ = -1;
  // Here and not in `idle`, which looks a little later: by then a chunk would be out.
  std::optional<int> chunk;
  if (!rules_.may_take || rules_.may_take(size()))
    chunk = queue_.next(size(), worker_, &nothing_left_);
  else if (size() == 0)
    queue_.cancel_round();
  if (!chunk) {
    refused_at_ = size();
    return std::nullopt;
  }
  receive(*chunk, {std::make_unique<Watch::Hold>(queue_.watch(), *chunk), steady_clock_s()});
  return chunk;
}

void Hand::receive(int chunk, Held held) noexcept {
  held_[chunk] = std::move(held);
  most_ = std::max(most_, size());
  std::vector<int> more = at_;
  more.push_back(chunk);
  at(more);
}

void Hand::at(const std::vector<int>& chunks) {
  if (chunks == at_) return;
  SVFLEET_CHECK(!chunks.empty() || held_.empty(), held_.size(), " chunks held, and at none");
  std::vector<StageCounter*> counters;
  for (const int chunk : chunks) {
    Watch::Hold& hold = *held_.at(chunk).hold;
    hold.go_on();
    counters.push_back(&hold.counter());
  }
  // After the others have gone on: at no moment do all of them wait.
  for (const auto& [chunk, held] : held_)
    if (std::find(chunks.begin(), chunks.end(), chunk) == chunks.end())
      held.hold->wait_behind(chunks.front());
  counted_.reset();
  if (!counters.empty()) counted_.emplace(std::move(counters));
  at_ = chunks;
}

Hand::Held Hand::give(int chunk) {
  const auto found = held_.find(chunk);
  SVFLEET_CHECK(found != held_.end(), "chunk ", chunk, " is given by who does not hold it");
  std::vector<int> others;
  for (const auto& [other, held] : held_)
    if (other != chunk) others.push_back(other);
  at(others.empty() ? std::vector<int>{chunk} : others);
  if (others.empty()) {
    counted_.reset();
    at_.clear();
  }
  Held given = std::move(found->second);
  held_.erase(found);
  given.hold->go_on();
  return given;
}

void Hand::let_go(int chunk) {
  give(chunk);  // to nobody
  queue_.finished(chunk);
}

void Hand::finished(int chunk) {
  const auto held = held_.find(chunk);
  SVFLEET_CHECK(held != held_.end(), "chunk ", chunk, " is finished by who does not hold it");
  const double held_s = steady_clock_s() - held->second.since_s;
  longest_s_ = std::max(longest_s_, held_s);
  if (rules_.finished) rules_.finished(held_s);
  let_go(chunk);
}

void Hand::leave() {
  if (held_.empty()) return;
  queue_.cancel_round();
  while (!held_.empty()) let_go(held_.begin()->first);
}

}  // namespace svfleet
