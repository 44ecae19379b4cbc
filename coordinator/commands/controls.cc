#include "coordinator/commands/controls.h"

#include <algorithm>

#include "comm/random.h"

namespace svfleet {

std::vector<float> shuffled(const std::vector<Target>& targets, const std::vector<float>& z) {
  std::vector<float> out = z;
  for (size_t t = 0; t < targets.size(); ++t) {
    std::vector<int64_t> order = keyed_permutation(0, t, 0, targets[t].length());
    for (size_t i = 0; i < order.size(); ++i)
      out[targets[t].offset + i] = z[targets[t].offset + order[i]];
  }
  return out;
}

std::vector<float> reversed(const std::vector<Target>& targets, const std::vector<float>& z) {
  std::vector<float> out = z;
  for (const Target& target : targets)
    std::reverse(out.begin() + target.offset, out.begin() + target.offset + target.length());
  return out;
}

std::vector<float> mirrored(const std::vector<float>& z) {
  std::vector<float> out;
  for (float value : z) out.push_back(2 - value);
  return out;
}

}  // namespace svfleet
