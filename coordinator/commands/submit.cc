// svfleet submit: everything that can be known before the queue is checked, then a job script is
// written and handed to Slurm.
#include <cctype>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/allocation_end.h"
#include "cluster/job_script.h"
#include "cluster/partition.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/prompts.h"
#include "coordinator/base/splits.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/submission.h"
#include "coordinator/commands/submit_checks.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/targets.h"
#include "coordinator/crew/run_program.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/identity.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/log.h"
#include "coordinator/run/log_index.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/best.h"
#include "coordinator/training/fork.h"
#include "coordinator/training/plan.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The numbers of the jobs, in order. What is in the queue is noted even when the rest is refused.
std::vector<std::string> hand_in_all(const JobScript& job, const std::string& file) {
  std::vector<std::string> jobs;
  const auto numbers = [&](const char* between) {
    std::string list;
    for (const std::string& one : jobs) list += (list.empty() ? "" : between) + one;
    return list;
  };
  try {
    for (int64_t i = 0; i < job.request.chain; ++i) {
      jobs.push_back(hand_in(file, job.request, jobs.empty() ? "" : jobs.back()));
      set_last_words("svfleet: ended by a signal: in the queue, where they stay: " + numbers(", ") +
                     "; scancel " + numbers(" ") + " takes them out");
    }
  } catch (const Error& error) {
    if (jobs.empty()) throw;
    note_submitted(job.run_dir, jobs);
    throw user_error(error.what(), "; ", jobs.size(), " of ", job.request.chain,
                     " jobs are in the queue and stay there: ", numbers(", "),
                     "; scancel " + numbers(" "), " takes them out");
  }
  note_submitted(job.run_dir, jobs);
  return jobs;
}

// Nobody else may have the run: what is written here would be under its feet.
void check_free(const std::string& run_dir) {
  const auto owner = look_at_owner(run_dir);
  if (!owner || owner->dead || job_ended(owner->who.job, owner->who.cluster)) return;
  throw user_error("the run in '", run_dir, "' is in use by process ", owner->who.pid, " on host ",
                   owner->who.host, owner->who.job.empty() ? "" : " of job " + owner->who.job,
                   " since ", owner->started, "; wait for it, or end it with svfleet stop");
}

// A chain holds together by its name, which must then be no other run's.
std::string default_name(const std::string& run_dir, bool chain) {
  std::string name = "svfleet-" + fs::path(run_dir).filename().string();
  if (chain) name += "-" + hash_bytes(run_dir).substr(0, 6);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && !std::strchr("_.-", c)) c = '-';
  return name;
}

// What train finds before it loads the model, hours in the queue later: a folder of somebody's, bad
// items, layers that the model lacks, settings that the run was not started with. Returns the last
// line of a run that is finished; empty: there is something to do.
std::string check_run(const Config& config) {
  check_run_dir(config);
  const RunItems items = read_items(config);
  check_items(config, {{"train", items.train}, {"validation", items.validation}});
  targets_of(config, read_architecture(config.model.path));
  for (const std::string& text : prompts_in_two_splits(config, "", &items.train))
    print_line("svfleet: " + text);
  if (!is_folder(config.run_dir + "/checkpoints")) return "";
  auto state = load_newest_checkpoint(config.run_dir).state;
  if (!state) return "";
  check_settings(*state, config, items.train);
  forget_other_best(validated_on(items.validation), config, *state);
  if (!is_finished(*state, config) || !file_exists(config.run_dir + "/experts/final.safetensors"))
    return "";
  const std::string experts = config.run_dir + "/experts/", best = experts + "best.safetensors";
  return last_words(*state, config, true, file_exists(best) ? best : experts + "final.safetensors");
}

// The expert that a run starts from; a child starts from its parent.
std::string start_expert(const CommandLine& line, const Config& config) {
  return line.fork.empty() ? config.train.init_from : "";
}

// Says that no job is needed, where that is so; true: that is all.
bool nothing_to_do(const CommandLine& line, const Config& config) {
  const std::string finished = check_run(config);
  if (finished.empty()) return false;
  const std::string no_job = finished + "; no job is needed";
  if (line.dry_run) {
    print_line("svfleet: " + no_job);
    return false;
  }
  const json told = {{"jobs", json::array()}, {"already_finished", true}, {"message", finished}};
  std::printf("%s\n", line.json ? told.dump().c_str() : no_job.c_str());
  return true;
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

// Where everything is, as the nodes see it.
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
  const auto [chunk_s, save_s] = longest_times(job.run_dir);
  job.warning_s = warning_s(chunk_s, save_s);
  check_cluster(job, line.dry_run);
  job.command = command_of(line, ask, mounts);
  return job;
}

void tell_jobs(const JobScript& job, const std::string& file, const std::vector<std::string>& jobs,
               bool as_json) {
  if (as_json) {
    const json told = {{"jobs", jobs},
                       {"name", job.request.name},
                       {"script", file},
                       {"run_dir", job.run_dir},
                       {"warning_s", job.warning_s}};
    std::printf("%s\n", told.dump().c_str());
    return;
  }
  std::string list;
  for (const std::string& one : jobs) list += (list.empty() ? "" : ", ") + one;
  const bool one = jobs.size() == 1;
  std::printf("submitted %s as job%s %s; %s output: %s/slurm-%s.out\n", job.request.name.c_str(),
              one ? "" : "s", list.c_str(), one ? "its" : "their", job.run_dir.c_str(),
              one ? jobs[0].c_str() : "%j");
}

// Program and script into the run folder, and the jobs into the queue.
void hand_in_run(const JobScript& job, const std::string& script, const RunProgram& program,
                 bool as_json) {
  check_free(job.run_dir);
  make_folder(job.run_dir);
  keep_program(job.run_dir, program);
  if (program.hash != program_hash())
    print_line("svfleet: the run goes on with its own program, '" + job.program +
               "': this one is another build");
  const std::string file = job.run_dir + "/job.sh";
  write_file_atomic(file, script);
  remove_file(job.run_dir + "/restarts.json");  // a person has looked: all tries anew
  withdraw_end_request(job.run_dir);
  tell_jobs(job, file, hand_in_all(job, file), as_json);
}

}  // namespace

int submit_command(const CommandLine& line, const Config& config) {
  open_messages("", 0);  // warnings that train would give
  CommandLine whole = line;
  adopt_site(line.site, whole.job);
  adopt_defaults(whole.job);
  check_files(config, start_expert(line, config));
  if (nothing_to_do(line, config)) return kExitFinished;
  const RunProgram program =
      choose_program(resolved_path(config.run_dir), line.allow_different_hardware);
  const JobScript job = plan_job(whole, config, program);
  const std::string script = job_script(job);
  const std::string& site = job.request.site.name;
  if (!site.empty()) check_bash(script, site);
  if (!line.dry_run) {
    hand_in_run(job, script, program, line.json);
  } else if (line.json) {
    std::printf("%s\n", json{{"script", script}, {"warning_s", job.warning_s}}.dump().c_str());
  } else {
    std::fputs(script.c_str(), stdout);
  }
  return kExitFinished;
}

}  // namespace svfleet
