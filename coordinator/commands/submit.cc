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
#include "coordinator/commands/run_program.h"
#include "coordinator/commands/submission.h"
#include "coordinator/commands/submit_checks.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/targets.h"
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
  const char* best = state->best_step >= 0 ? "best" : "final";
  return last_words(*state, config, true, config.run_dir + "/experts/" + best + ".safetensors");
}

}  // namespace

int submit_command(const CommandLine& line, const Config& config) {
  open_messages("", 0);  // warnings that train would give
  JobScript job;
  job.request = line.job;
  JobRequest& ask = job.request;
  adopt_site(line.site, ask);
  adopt_defaults(ask);
  // A child starts from its parent.
  const std::string start = line.fork.empty() ? config.train.init_from : "";
  check_files(config, start);
  if (const std::string finished = check_run(config); !finished.empty()) {
    if (!line.dry_run) {
      const json told = {
          {"jobs", json::array()}, {"already_finished", true}, {"message", finished}};
      std::printf("%s\n",
                  line.json ? told.dump().c_str() : (finished + "; no job is needed").c_str());
      return kExitFinished;
    }
    print_line("svfleet: " + finished + "; no job is needed");
  }
  job.run_dir = resolved_path(config.run_dir);
  job.store = resolved_path(store_folder(config));
  job.folder = resolved_path(".");
  const std::string mounts = file_exists("/proc/self/mounts") ? read_file("/proc/self/mounts") : "";
  check_characters("run_dir", job.run_dir);
  check_characters("the working directory", job.folder);
  const RunProgram program = choose_program(job.run_dir, line.allow_different_hardware);
  job.program = job.run_dir + "/bin/svfleet";
  job.libraries = library_folders(program);
  check_all_shared(job, config, start, mounts);
  if (ask.name.empty()) ask.name = default_name(job.run_dir, ask.chain > 1);

  const auto [chunk_s, save_s] = longest_times(job.run_dir);
  job.warning_s = warning_s(chunk_s, save_s);
  const auto limit = time_limit_s(ask.time);
  if (limit && *limit < job.warning_s + 120)
    throw user_error("--time ", ask.time, " is too short: ", job.warning_s,
                     " s are kept for the stop, and loading takes time too; give at least ",
                     (job.warning_s + 179) / 60, " minutes");
  std::optional<std::vector<Partition>> partitions;
  try {
    partitions = ask_partitions();
  } catch (const Error& error) {  // the script can still be looked at
    if (!line.dry_run) throw;
    const std::string why = error.what();
    print_line("svfleet: not checked against a cluster: " + why.substr(0, why.find(';')));
  }
  if (partitions) {
    JobRequest all = ask;
    all.nodes += all.spare;
    check_against(all, *partitions);
  }

  job.command = {"train"};
  if (!line.config_file.empty()) job.command.push_back(resolved_path(line.config_file));
  if (!line.fork.empty()) {
    const ForkPoint point = fork_point(line.fork);
    check_shared(ask, "--fork", resolved_path(point.run_dir), mounts);
    job.command.push_back("--fork");
    job.command.push_back(resolved_path(point.run_dir) +
                          (point.step ? "@" + std::to_string(*point.step) : ""));
  }
  for (const std::string& setting : line.overrides) {
    job.command.push_back("--set");
    job.command.push_back(setting);
  }
  if (line.allow_different_hardware) job.command.push_back("--allow-different-hardware");
  const std::string script = job_script(job);
  if (!ask.site.name.empty()) check_bash(script, ask.site.name);
  if (line.dry_run) {
    if (line.json)
      std::printf("%s\n", json{{"script", script}, {"warning_s", job.warning_s}}.dump().c_str());
    else
      std::fputs(script.c_str(), stdout);
    return kExitFinished;
  }

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
  const std::vector<std::string> jobs = hand_in_all(job, file);
  if (line.json) {
    std::printf("%s\n", json{{"jobs", jobs},
                             {"name", ask.name},
                             {"script", file},
                             {"run_dir", job.run_dir},
                             {"warning_s", job.warning_s}}
                            .dump()
                            .c_str());
  } else {
    std::string list;
    for (const std::string& one : jobs) list += (list.empty() ? "" : ", ") + one;
    const bool one = jobs.size() == 1;
    std::printf("submitted %s as job%s %s; %s output: %s/slurm-%s.out\n", ask.name.c_str(),
                one ? "" : "s", list.c_str(), one ? "its" : "their", job.run_dir.c_str(),
                one ? jobs[0].c_str() : "%j");
  }
  return kExitFinished;
}

}  // namespace svfleet
