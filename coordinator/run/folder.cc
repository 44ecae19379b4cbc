#include "coordinator/run/folder.h"

#include <unistd.h>

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>

#include "checkpoints/before_run.h"
#include "checkpoints/clean.h"
#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/allocation_end.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/agreement.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/config/run_file.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string random_id() {
  std::random_device device;
  char text[33];
  std::snprintf(text, sizeof text, "%08x%08x%08x%08x", device(), device(), device(), device());
  return text;
}

void write_configuration(const std::string& run_dir, const std::string& given,
                         const std::string& text) {
  const std::string path = effective_path(run_dir);
  if (given.empty() || resolved_path(given) != resolved_path(path)) write_file_atomic(path, text);
}

// run.json first: a folder without it may hold nothing but what comes before a run
// (checkpoints/before_run.h). A configuration that a kill here leaves out is written before the
// first checkpoint.
std::string open_run(const std::string& path, const Config& config) {
  make_folder(path);
  if (const auto run = read_run_file(path)) return run->run_id;
  const std::string id = random_id();
  json run = {
      {"format", "svfleet-run"}, {"version", 1}, {"run_id", id}, {"directory", resolved_path(".")}};
  const std::filesystem::path given = config.file.empty() ? "" : resolved_path(config.file);
  if (given.parent_path() == resolved_path(path)) run["config"] = given.filename().string();
  if (!config.experts.empty()) run["experts"] = expert_names(config);
  write_file_atomic(path + "/run.json",
                    run.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  write_configuration(path, config.file, print_config(config));
  return id;
}

// How long a start waits for an owner that is about to go.
constexpr double kOwnerPatience_s = 300;

// How old the look at the owner may be on other ranks, for a chunk that is added to the journal.
constexpr double kAppendPatience_s = 1;

OwnerIdentity this_process(const Group& group) {
  const SlurmJob slurm = slurm_job();
  OwnerIdentity me;
  me.host = group.host();
  me.pid = getpid();
  me.job = slurm.job;
  me.restarts = slurm.restarts;
  me.cluster = slurm.cluster;
  me.start = slurm.start;
  return me;
}

// The last minutes of a job whose processes may live, other links of our own chain, and what a
// Slurm that is too busy to answer may yet say of a job.
bool goes_soon(const OwnerIdentity& owner) {
  const JobPhase phase = job_phase(owner.job, owner.cluster, of_this_user(owner));
  if (phase == JobPhase::kEnding || phase == JobPhase::kOver) return true;  // over: only just
  const SlurmJob here = slurm_job();
  if (phase == JobPhase::kUnknown && !here.job.empty() && !owner.job.empty() &&
      owner.cluster == here.cluster)
    return true;
  const char* chain = std::getenv("SVFLEET_CHAIN");  // the name of its jobs: job.sh
  return phase == JobPhase::kLives && chain && job_name(owner.job) == chain;
}

// Rank 0: the folder, or nothing when it is worth waiting for.
std::optional<Owner> try_to_take(const std::string& path, const OwnerIdentity& me,
                                 double waited_s) {
  try {
    return Owner::take(path, me, job_ended);
  } catch (const FolderInUse& in_use) {
    if (!goes_soon(in_use.owner())) throw;
    if (waited_s > kOwnerPatience_s)
      throw make_error(kExitRequeue, in_use.what(), "; it was waited for ", kOwnerPatience_s,
                       " s, since its job may be ending or is of this chain");
    if (waited_s == 0)
      spdlog::warn(
          "waiting up to {:.0f} s for job {} on host {}, which has the run and may be ending",
          kOwnerPatience_s, in_use.owner().job, in_use.owner().host);
    return std::nullopt;
  }
}

// The other ranks wait for the folder as well, and end with this one.
[[noreturn]] void stopped_while_waiting(const std::string& path) {
  const std::string signal = stop_signal_name();
  throw make_error(kExitRequeue, "stopped by ", signal.empty() ? "a signal" : signal,
                   " while waiting for the run folder '", path,
                   "', which another process has; nothing was changed");
}

}  // namespace

void check_run_dir(const Config& config) {
  const std::string& path = config.run_dir;
  if (read_run_file(path) || !is_folder(path)) return;
  check_run_has_name(path, ", or choose another run_dir");
  if (const std::string names = foreign_names(path, config.file); !names.empty())
    throw user_error(
        "run_dir '", path, "' holds no run, but ", names, ", which a new run would ",
        "mix with its own files; choose another run_dir: a new folder or an empty one");
}

RunFolder::RunFolder(const Config& config, Group& group)
    : path_(config.run_dir), experts_(expert_names(config)), config_file_(config.file) {
  if (group.rank() == 0) check_run_dir(config);
  const double began_s = steady_clock_s();
  std::string told;
  // Again and again, so that no rank waits longer than it would for one that is lost.
  for (bool first = true; told.empty(); first = false) {
    if (group.rank() == 0) {
      if (!first) usleep(1'000'000);  // a signal ends it
      if (!first && stop_requested()) stopped_while_waiting(path_);
      const double waited_s = first ? 0 : steady_clock_s() - began_s;
      if (auto owner = try_to_take(path_, this_process(group), waited_s)) {
        owner_ = std::make_unique<Owner>(std::move(*owner));
        token_ = owner_->identity().token;
        guard();
        owner_->shut_out_others();
        existed_ = file_exists(path_ + "/run.json");
        run_id_ = open_run(path_, config);
        told = token_ + "\n" + run_id_;
      }
    }
    group.broadcast(told, 0, "open run folder");
  }
  token_ = told.substr(0, told.find('\n'));
  run_id_ = told.substr(told.find('\n') + 1);
  if (group.rank() != 0) guard();
  journal_.emplace(path_, run_id_, token_, group.rank());
}

void RunFolder::check_seen(Group& group) const {
  bool same = is_owner(path_, token_);
  for (int tries = 0; tries < 50 && !same; ++tries) {  // shared disks may lag
    usleep(100'000);
    same = is_owner(path_, token_);
  }
  std::string told;  // whether the run was there, then the host of each rank that does not see it
  if (group.rank() == 0 && existed_) told = "1";
  for (const std::string& rank : group.gather(same ? "" : group.host(), "see folder"))
    told += "\n" + rank;
  group.broadcast(told, 0, "see folder");
  std::istringstream lines(told);
  std::string existed, host, names;
  std::getline(lines, existed);
  std::vector<std::string> hosts;
  int count = 0;
  for (int rank = 0; std::getline(lines, host); ++rank) {
    if (host.empty()) continue;
    ++count;
    names += (names.empty() ? "" : ", ") + group.name(rank);
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
  }
  if (names.empty()) return;
  if (!existed.empty() && 2 * count < group.size())
    throw AgreedError(kExitDisk,
                      "the run in '" + path_ + "' is out of sight on rank " + names +
                          "; mount its disk there, or leave out that host",
                      hosts);
  // A folder that is local to each node would lose chunks silently.
  throw user_error("run_dir '", path_, "' is not the same folder on ranks ", names,
                   " as on rank 0; put it on a disk that all nodes share");
}

void RunFolder::guard() {
  guard_.emplace(
      path_, [this] { verify_owner(); }, owner_ ? 0 : kAppendPatience_s);
}

void RunFolder::verify_owner() const {
  svfleet::verify_owner(path_, token_);
}

void RunFolder::keep_configuration(const std::string& text) const {
  write_configuration(path_, config_file_, text);
}

std::string RunFolder::expert_path(const std::string& name, const std::string& expert) const {
  return svfleet::expert_path(path_, name, expert);
}

bool RunFolder::is_closed() const {
  return has_final(path_, experts_);
}

std::optional<RunState> RunFolder::newest(Group& group) const {
  std::string image;
  if (group.rank() == 0) {
    for (const std::string& path : finish_setting_aside(path_))
      spdlog::warn("set aside, as made with weights that had changed in memory: '{}'", path);
    NewestCheckpoint found = load_newest_checkpoint(path_);
    for (const std::string& line : found.damaged) spdlog::warn("checkpoint passed over: {}", line);
    if (found.state) {
      // Set aside: what counts as progress from here on begins at the good one.
      for (const std::string& path : found.wrong) rename_file(path, path + ".damaged");
      image = encode_state(*found.state);
    } else if (found.unread) {
      std::rethrow_exception(found.unread);  // nobody has to restore what may be whole
    } else if (!found.damaged.empty()) {
      throw disk_error("all ", found.damaged.size(), " checkpoints in '", path_,
                       "/checkpoints' are damaged; restore one of them, or choose another run_dir ",
                       "to start again from nothing");
    } else if (is_folder(path_ + "/chunks")) {  // made after the first checkpoint
      throw disk_error("the checkpoints of the run in '", path_, "' have been removed; restore ",
                       "one, or choose another run_dir to start again from nothing");
    }
  }
  group.broadcast(image, 0, "broadcast checkpoint");
  if (image.empty()) return std::nullopt;
  return decode_state(image, "the checkpoint that rank 0 sent");
}

}  // namespace svfleet
