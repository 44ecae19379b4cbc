// What can be found out in seconds at the start, instead of hours later: a disk that is too small,
// clocks that differ, a node or link that adds wrongly, a GPU that is not well. Model, program and
// configuration are compared by Crew::agree, the shared folder by RunFolder.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/group.h"
#include "comm/reducer.h"
#include "coordinator/config/config.h"
#include "coordinator/crew/crew.h"

namespace svfleet {

struct Preflight {
  int ranks = 1, hosts = 1;
  double reduce_s = 0;  // of the slowest rank
  int slowest_rank = 0;
  double clocks_s = 0;      // no two clocks differ by more
  uint64_t free_bytes = 0;  // where the run folder is
  uint64_t gpu_free_bytes = 0;

  std::string line() const;  // for a person
  nlohmann::json to_json() const;
};

// Collective. Looks at everything before a run starts or goes on at `start_step`; the result is
// whole on rank 0. `fresh` says that not even the first checkpoint has been written. Throws
// Error(kExitDisk) when a disk is too full for what is still to be written, Error(kExitRequeue)
// when a rank adds wrongly or its GPU computes wrongly, by name.
Preflight preflight_run(const Config& config, int64_t start_step, bool fresh, Crew& crew);
// Collective. The part of it that matters to a decomposition: the disk of the factor store, GPUs.
void preflight_decompose(const Config& config, Crew& crew);

// The parts.

// The clock of a rank was read after `before` and before `after` of rank 0's clock. How far it is
// certainly off (0 when inside), and how far it may be at most.
double certain_skew_s(double clock, double before, double after);
double largest_skew_s(double clock, double before, double after);

// Collective. A rank's system clock in seconds is `clock()`. Rank 0 gets one line for each rank
// that is more than 5 s off, and in `most_s` the largest difference that there may be.
std::vector<std::string> compare_clocks(Group& group, double (*clock)(), double* most_s);

struct SumCheck {
  double seconds = 0;  // of the slowest rank; on rank 0
  int slowest_rank = 0;
};
// Collective. All-reduces 1 MiB over `reducer` (and maxima over `group`) whose result every rank
// knows beforehand. Error(kExitRequeue) on every rank, naming the ranks and hosts that got
// something else.
SumCheck check_sums(Group& group, Reducer& reducer);

}  // namespace svfleet
