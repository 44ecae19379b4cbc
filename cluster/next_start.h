// Where the ranks are to be started next: in the allocation that the job has, or in another one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/restart.h"

namespace svfleet {

struct Allocation {
  std::vector<std::string> nodes;    // of this job
  int64_t asked = 0;                 // as submit's --nodes; 0: only another allocation will do
  std::vector<std::string> exclude;  // as submit's --exclude
};

struct NextStart {
  bool here = false;
  int64_t nodes = 0;                 // here: on so many
  std::vector<std::string> without;  // and not on these; elsewhere: what Slurm is to leave out
};

// Pure. After a host's own fault the ranks start again at once on the others, as long as these are
// half of the nodes that were asked for. Otherwise the job waits for another allocation, which
// leaves the hosts at fault out if the partition has enough others, one more than the job has nodes
// unless this end was the host's fault: `nodes_up` tells which can be had, and is asked only then.
NextStart next_start(const RunDecision& decision, const Allocation& allocation,
                     const std::function<std::vector<std::string>()>& nodes_up);

// For the job script, in a line: "again 2 n3,n4", "requeue n3,n4", "end", or "leave" when somebody
// else has the run. "-" stands for no nodes.
std::string in_words(const RunDecision& decision, const NextStart& next);

// Nodes that run jobs or could, by `sinfo -h -N -o "%N %T KIND"`: those of the kinds that `like`
// are of, since --constraint, --gres or --mem may have chosen these.
std::vector<std::string> nodes_up(const std::string& sinfo, const std::vector<std::string>& like);

}  // namespace svfleet
