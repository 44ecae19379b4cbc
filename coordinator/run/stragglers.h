// Ranks that are alive but slow, and chunks that take long: named for people, never killed.
#pragma once

#include <string>
#include <vector>

#include "comm/chunk_queue.h"

namespace svfleet {

class Stragglers {
 public:
  // Hosts by rank.
  explicit Stragglers(std::vector<std::string> hosts) : hosts_(std::move(hosts)) {}

  // After a step: chunks and their seconds, by rank. A rank whose chunks took more than twice as
  // long as the median of the other ranks' is named, once until it has been as fast as they are.
  std::vector<std::string> after_step(const std::vector<int>& chunks,
                                      const std::vector<double>& seconds);

  // While chunks are computed: one that is out for more than three times the longest so far (and
  // 10 s) is named once.
  std::vector<std::string> while_out(const std::vector<Holding>& out, double longest_s);

 private:
  std::string name(int rank) const;
  const std::vector<std::string> hosts_;
  std::vector<bool> slow_;
  int named_chunk_ = -1, named_rank_ = -1;
};

}  // namespace svfleet
