// The keyed order in which prompts come (rl/task.h), whatever ranks there are.
#include <map>
#include <utility>

#include "comm/error.h"
#include "comm/random.h"
#include "rl/task.h"

namespace svfleet {

PromptOrder::PromptOrder(uint64_t seed, std::vector<int64_t> items_per_task,
                         std::vector<double> weights)
    : seed_(seed), sizes_(std::move(items_per_task)), weights_(std::move(weights)) {
  SVFLEET_CHECK(!sizes_.empty() && sizes_.size() == weights_.size(), sizes_.size(), " tasks, ",
                weights_.size(), " weights");
  double sum = 0;
  for (size_t t = 0; t < sizes_.size(); ++t) {
    SVFLEET_CHECK(sizes_[t] > 0, "task ", t, " has ", sizes_[t], " items");
    SVFLEET_CHECK(weights_[t] > 0, "task ", t, " has weight ", weights_[t]);
    sum += weights_[t];
  }
  for (double& w : weights_) w /= sum;
}

std::vector<PromptPick> PromptOrder::picks(int64_t first, int64_t count) const {
  SVFLEET_CHECK(first >= 0 && count >= 0, first, ", ", count);
  std::vector<PromptPick> result;
  result.reserve(count);
  std::map<std::pair<int, int64_t>, std::vector<int64_t>> orders;  // by (task, epoch)
  const auto add = [&](int task, int64_t used) {
    const int64_t epoch = used / sizes_[task];
    auto& order = orders[{task, epoch}];
    if (order.empty()) order = keyed_permutation(seed_, task, epoch, sizes_[task]);
    result.push_back({task, order[used % sizes_[task]]});
  };
  if (sizes_.size() == 1) {
    for (int64_t n = first; n < first + count; ++n) add(0, n);
    return result;
  }
  // The task furthest behind its share goes next, so that any stretch of prompts holds the tasks in
  // nearly the right proportion. Scanned from 0 each time (some ns per prompt) instead of stored,
  // because a position must mean the same to every rank and after every resume.
  std::vector<int64_t> used(sizes_.size(), 0);
  for (int64_t n = 0; n < first + count; ++n) {
    int next = 0;
    double furthest = -1;
    for (size_t t = 0; t < sizes_.size(); ++t) {
      const double behind = weights_[t] * static_cast<double>(n + 1) - static_cast<double>(used[t]);
      if (behind > furthest) {
        furthest = behind;
        next = static_cast<int>(t);
      }
    }
    if (n >= first) add(next, used[next]);
    ++used[next];
  }
  return result;
}

}  // namespace svfleet
