// Start here for `svfleet submit`: the batch script of a training run that survives preemption,
// node loss and its time limit, and what a user may ask of Slurm.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

// One more option of sbatch: see cluster/sbatch_option.h.
struct SbatchOption {
  std::string name;   // in full, without dashes
  std::string value;  // empty: a flag
};

// What differs from site to site; empty = as job.sh has it.
struct JobSite {
  std::string mpi{};           // srun --mpi=...; "default": what Slurm's configuration says
  std::string prelude{};       // lines of bash, run before the ranks
  std::string text{}, name{};  // of a template in the place of job.sh, and its file
  std::vector<SbatchOption> options{};
};

// What the user asks for; empty = Slurm's default.
struct JobRequest {
  int64_t nodes = 1;
  int64_t spare = 0;  // nodes more: the run goes on at once when it has to do without one
  int64_t ranks_per_node = 1;
  int64_t cpus_per_task = 1;
  std::string partition{}, time{}, account{}, qos{}, gres{}, memory{};
  std::string constraint{}, exclude{};  // nodes with these features, without these names
  std::string name{};
  int64_t chain = 1;     // jobs in a row, each waiting for the one before
  bool requeue = true;   // false: the job ends with 75 instead of asking to be started again
  int64_t patience = 3;  // starts without progress before the job gives up
  bool allow_local = false;
  JobSite site{};
};

struct JobScript {
  JobRequest request;
  int64_t warning_s = 60;              // seconds before the time limit at which Slurm warns
  std::string program;                 // svfleet, an absolute path
  std::vector<std::string> libraries;  // folders in which its libraries are found first
  std::vector<std::string> command;    // its words: "train", the configuration, --set ...
  std::string folder;                  // working directory, absolute
  std::string run_dir;                 // absolute
  std::string store;                   // the factor store, absolute
};

// The whole script. Pure. How it works is told in docs/slurm.md. Error(kExitUser) for a template
// that cannot be filled (cluster/job_template.h).
std::string job_script(const JobScript& job);

// 'it'\''s' : one word for a shell, whatever it holds.
std::string shell_quoted(const std::string& word);

// Slurm's time limits: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
// days-hours:minutes, days-hours:minutes:seconds; in seconds. Nothing when malformed or 0.
std::optional<int64_t> time_limit_s(const std::string& text);
// Slurm's memory sizes, 1500, 1500M, 4G, in MiB; 0 is 0, Slurm's word for all of a
// node's memory. Nothing when malformed.
std::optional<int64_t> memory_mib(const std::string& text);

}  // namespace svfleet
