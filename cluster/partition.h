// What a cluster offers, as Slurm's commands print it, and whether a request can ever start there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/job_script.h"

namespace svfleet {

struct NodeKind {
  int64_t count = 0, cpus = 0, memory_mib = 0;
  std::string gres;  // "gpu:a100:4(S:0-1)"; "(null)" when there are none
};

struct Partition {
  std::string name, state;  // UP, DOWN, DRAIN, INACTIVE
  bool is_default = false;
  int64_t nodes = 0;
  std::optional<int64_t> max_time_s, max_nodes, max_cpus_per_node;  // nothing = no limit
  int64_t min_nodes = 0;
  std::vector<NodeKind> kinds;
};

// From `scontrol -a -o show partition` and `sinfo -a -h -o %R|%D|%c|%m|%G`. Lines that cannot be
// read are passed over.
std::vector<Partition> parse_partitions(const std::string& scontrol, const std::string& sinfo);

// Asks Slurm. Error(kExitUser) when its commands are missing or the controller is silent.
std::vector<Partition> ask_partitions();

// Error(kExitUser), one line, when the partition of the request (or the default one) is not there
// or can never run it.
void check_against(const JobRequest& request, const std::vector<Partition>& partitions);

// Whether a folder (absolute, no links) is on a disk that only this machine sees; the reason, or
// "". `mounts` is the text of /proc/self/mounts.
std::string node_local(const std::string& folder, const std::string& mounts);

}  // namespace svfleet
