// svfleet submit: everything that can be known before the queue is checked, then a job script is
// written and handed to Slurm.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "cluster/job_script.h"
#include "cluster/signals.h"
#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/job_plan.h"
#include "coordinator/commands/submission.h"
#include "coordinator/commands/submit_checks.h"
#include "coordinator/config/reader.h"
#include "coordinator/crew/run_program.h"
#include "coordinator/run/identity.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/log.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/stop_request.h"

namespace svfleet {
namespace {

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
