// Which ranks hold one model together, and so take every chunk together: a replica, of which the
// first rank leads and asks the queue. One rank each; more once the model is sharded.
#pragma once

namespace svfleet {

struct Replicas {
  int width = 1;  // ranks of each: neighbours
  int leader_of(int rank) const { return rank - rank % width; }
  bool leads(int rank) const { return leader_of(rank) == rank; }
};

}  // namespace svfleet
