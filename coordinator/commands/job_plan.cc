#include "coordinator/commands/job_plan.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <optional>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "cluster/allocation_end.h"
#include "cluster/partition.h"
#include "comm/error.h"
#include "coordinator/commands/submit_checks.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/log_index.h"
#include "coordinator/run/progress.h"
#include "coordinator/training/fork.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

// A chain holds together by its name, which must then be no other run's.
std::string default_name(const std::string& run_dir, bool chain) {
  std::string name = "svfleet-" + fs::path(run_dir).filename().string();
  if (chain) name += "-" + hash_bytes(run_dir).substr(0, 6);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && !std::strchr("_.-", c)) c = '-';
  return name;
}

// The limit leaves time for the stop, and the cluster has what is asked of it.
void check_cluster(const JobScript& job, bool dry_run) {
  const JobRequest& ask = job.request;
  const auto limit = time_limit_s(ask.time);
  if (limit && *limit < job.warning_s + 120)
    throw user_error("--time ", ask.time, " is too short: ", job.warning_s,
                     " s are kept for the stop, and loading takes time too; give at least ",
                     (job.warning_s + 179) / 60, " minutes");
  std::optional<std::vector<Partition>> partitions;
  try {
    partitions = ask_partitions();
  } catch (const Error& error) {  // the script can still be looked at
    if (!dry_run) throw;
    const std::string why = error.what();
    print_line("svfleet: not checked against a cluster: " + why.substr(0, why.find(';')));
  }
  if (!partitions) return;
  JobRequest all = ask;
  all.nodes += all.spare;
  check_against(all, *partitions);
}

// What the job's ranks are started with.
std::vector<std::string> command_of(const CommandLine& line, const JobRequest& ask,
                                    const std::string& mounts) {
  std::vector<std::string> words = {"train"};
  if (!line.config_file.empty()) words.push_back(resolved_path(line.config_file));
  if (!line.fork.empty()) {
    const ForkPoint point = fork_point(line.fork);
    check_shared(ask, "--fork", resolved_path(point.run_dir), mounts);
    words.push_back("--fork");
    words.push_back(resolved_path(point.run_dir) +
                    (point.step ? "@" + std::to_string(*point.step) : ""));
  }
  for (const std::string& setting : line.overrides) {
    words.push_back("--set");
    words.push_back(setting);
  }
  if (line.allow_different_hardware) words.push_back("--allow-different-hardware");
  return words;
}

}  // namespace

JobScript plan_job(const CommandLine& line, const Config& config, const RunProgram& program) {
  JobScript job;
  job.request = line.job;
  JobRequest& ask = job.request;
  job.run_dir = resolved_path(config.run_dir);
  job.store = resolved_path(store_folder(config));
  job.folder = resolved_path(".");
  const std::string mounts = file_exists("/proc/self/mounts") ? read_file("/proc/self/mounts") : "";
  check_characters("run_dir", job.run_dir);
  check_characters("the working directory", job.folder);
  job.program = job.run_dir + "/bin/svfleet";
  job.libraries = library_folders(program);
  check_all_shared(job, config, start_expert(line, config), mounts);
  if (ask.name.empty()) ask.name = default_name(job.run_dir, ask.chain > 1);
  const LongestTimes longest = longest_times(job.run_dir);
  job.warning_s = warning_s(std::max(longest.chunk_s, longest.held_s), longest.save_s);
  check_cluster(job, line.dry_run);
  job.command = command_of(line, ask, mounts);
  return job;
}

}  // namespace svfleet
