// How often prompts come to the right expert.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

struct Confusion {
  std::vector<std::string> labels;
  std::vector<std::vector<int64_t>> counts;  // [whose it is][who got it]

  explicit Confusion(std::vector<std::string> names);
  void add(size_t gold, size_t said) { ++counts[gold][said]; }
  int64_t n() const;
  double accuracy() const;
  double majority() const;  // of always naming the most frequent one
};

}  // namespace svfleet
