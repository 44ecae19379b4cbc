// What Slurm says about this job, and about others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

struct SlurmJob {
  std::string job;                  // SLURM_JOB_ID, empty outside of Slurm
  int64_t restarts = 0;             // SLURM_RESTART_COUNT
  int64_t start = 0;                // SVFLEET_START: of the ranks in this allocation (job.sh)
  std::vector<std::string> nodes;   // SLURM_JOB_NODELIST, written out
  std::string cluster;              // SLURM_CLUSTER_NAME
  std::optional<int64_t> end_time;  // SLURM_JOB_END_TIME: seconds since 1970, end of the allocation
};

// From the environment; what is missing or malformed there stays empty.
SlurmJob slurm_job();

// The name of the cluster that Slurm's programs here ask: from the environment of a job, else from
// scontrol. Empty when nobody can be asked. Never throws.
std::string cluster_name();

// "n[1-3,07],m" -> n1 n2 n3 n07 m. A list that cannot be read, or of more than 100,000 nodes,
// comes back as a single name.
std::vector<std::string> expand_node_list(const std::string& list);

enum class JobPhase {
  kUnknown,  // nobody can be asked: no squeue, no answer in time, a job of another cluster
  kLives,    // it waits or runs
  kEnding,   // COMPLETING: its processes may live
  kOver,     // or not known to Slurm any more
};
// What Slurm says of a job within `timeout_s`. Never throws. `ours`: it is this user's. Of the live
// job of another one Slurm may say what it says of a job that it does not know (PrivateData=jobs):
// that is kUnknown then.
JobPhase job_phase(const std::string& job, double timeout_s, bool ours = true);
// Within 10 seconds, of a job of this cluster, where that is known: kUnknown when Slurm here is
// another one's.
JobPhase job_phase(const std::string& job, const std::string& cluster);
JobPhase job_phase(const std::string& job, const std::string& cluster, bool ours);

// Whether it is kOver.
bool job_ended(const std::string& job, double timeout_s);
bool job_ended(const std::string& job);  // within 10 seconds
bool job_ended(const std::string& job, const std::string& cluster);
bool job_ended(const std::string& job, const std::string& cluster, bool ours);

// The name that a job of this cluster was given; "" when nobody can be asked.
std::string job_name(const std::string& job);

}  // namespace svfleet
