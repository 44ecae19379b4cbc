#include "coordinator/commands/experts.h"

namespace svfleet {

std::vector<Expert> open_experts(const std::vector<std::string>& paths, Crew& crew) {
  std::vector<Expert> experts;
  std::string hashes;
  for (const std::string& path : paths)
    hashes += z_hash(experts.emplace_back(load_expert(path))) + " ";
  crew.agree("experts", hashes);
  return experts;
}

}  // namespace svfleet
