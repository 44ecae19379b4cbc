// Sums of many integers over all ranks, which carry z: by the group's own transport, or by NCCL
// between GPUs. What steers the ranks (flags, counts, exponents) never goes this way: comm/group.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "comm/group.h"

namespace svfleet {

class Reducer {
 public:
  virtual ~Reducer() = default;
  // Collective, from the main thread, as the members of Group are. `values` is host memory; the
  // sums take its place, the same on all ranks.
  virtual void sum(std::span<int64_t> values, std::string_view op) = 0;
};

// `group` must stay while it lives.
std::unique_ptr<Reducer> make_host_reducer(Group& group);

}  // namespace svfleet
