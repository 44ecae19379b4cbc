#include "coordinator/run/status.h"

#include <cmath>

#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/program.h"
#include "cluster/slurm.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/config/run_file.h"
#include "coordinator/run/log_index.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/stop_request.h"

namespace svfleet {
namespace {

using nlohmann::json;

// A living run gives a sign every kPulseSeconds; disks and clocks of other machines may lag.
constexpr double kSilentSeconds = 30;

// Slurm's words for a job, such as "PENDING (Resources)"; "" when nobody can be asked.
std::string job_state(const std::string& job) {
  if (job.empty() || job.find_first_not_of("0123456789_+") != std::string::npos) return "";
  const Answer answer = run_program({"squeue", "-a", "-h", "-j", job, "-o", "%T (%r)"}, 10);
  if (!answer.complete || answer.exit_code != 0) return "";
  return answer.out.substr(0, answer.out.find('\n'));
}

// Says so where the job is in the queue: handed in, or put back there by Slurm itself.
bool waits_in_queue(Status& now, const std::string& job, bool expected) {
  const std::string slurm = job_state(job);
  if (!expected && !slurm.starts_with("PENDING ")) return false;
  now.state = "waiting in the queue" + (slurm.empty() ? "" : ": Slurm says " + slurm);
  // JobHeldUser, JobHeldAdmin, "launch failed requeued held"; a reason may also name nodes.
  if (slurm.find("(JobHeld") != slurm.npos || slurm.find(" held") != slurm.npos)
    now.advice = "Slurm will not start it before 'scontrol release " + job + "'";
  return true;
}

// A run.json that says nothing is told of elsewhere.
std::vector<std::string> experts_of(const std::string& run_dir) {
  try {
    if (const auto run = read_run_file(run_dir)) return run->experts;
  } catch (const Error&) {
  }
  return {""};
}

void judge(Status& now) {
  const Account& account = now.account;
  const double silent_s = now.sign ? wall_clock_s() - now.sign->time_s : INFINITY;
  now.live = now.owner && !now.owner->dead && std::abs(silent_s) <= kSilentSeconds;
  now.finished = has_final(now.path, experts_of(now.path));
  if (now.live) {
    const std::string job = job_text(now.owner->who.job, now.owner->who.restarts);
    now.state = "running on " + now.owner->who.host + (job.empty() ? "" : " (" + job + ")");
    if (now.stop_asked) now.state += ", ends after its next checkpoint";
  } else if (now.owner && waits_in_queue(now, now.owner->who.job, false)) {
    now.account.waits = true;  // Slurm has killed it and starts it again
  } else if (now.owner && now.owner->dead) {
    now.state = "killed";
    now.advice = "start it again to go on";
  } else if (now.owner && now.sign) {
    now.state = "silent for " + time_text(silent_s);
    now.advice = "process " + std::to_string(now.owner->who.pid) + " on " + now.owner->who.host +
                 " may hang or be gone; look there, or start it again to go on";
  } else if (now.owner) {
    now.state = "held by process " + std::to_string(now.owner->who.pid) + " on " +
                now.owner->who.host + " since " + now.owner->started;
  } else if (now.finished) {
    now.state = "finished";
    if (now.exit && now.exit->code == kExitFinished && now.exit->reason != "finished")
      now.state += ", " + now.exit->reason;  // early_stop
  } else if (account.waits && !account.last_job.empty() && job_ended(account.last_job)) {
    now.state = "not running: job " + account.last_job + " has ended";
    now.advice = "submit it again to go on";
    now.account.waits = false;
  } else if (waits_in_queue(now, account.last_job, account.waits)) {
  } else if (now.exit) {
    now.state = now.exit->code == kExitFinished
                    ? now.exit->reason
                    : "ended with code " + std::to_string(now.exit->code) + ": " + now.exit->reason;
    now.advice = now.exit->code == kExitFinished ? "start it again to go on"
                                                 : what_to_do(now.exit->code, now.path);
  } else if (now.checkpoints.empty() && account.attempts.empty()) {
    now.state = "never started";
  } else {
    now.state = "not running";
    now.advice = "start it again to go on";
  }
}

}  // namespace

std::string job_text(const std::string& job, int64_t restarts) {
  if (job.empty()) return "";
  return "job " + job + (restarts > 0 ? ", restart " + std::to_string(restarts) : "");
}

Status look_at_run(std::string run_dir) {
  while (run_dir.size() > 1 && run_dir.back() == '/') run_dir.pop_back();
  if (!is_folder(run_dir) && file_exists(run_dir))
    throw user_error("'", run_dir, "' is a file; give the folder of a run, the run_dir of its ",
                     "configuration");
  if (!is_folder(run_dir)) throw user_error("there is no folder '", run_dir, "'");
  check_run_has_name(run_dir);
  if (!file_exists(run_dir + "/run.json") && !file_exists(run_dir + "/job.sh"))
    throw user_error("'", run_dir, "' is not a run folder: it has no run.json; give the run_dir ",
                     "of the configuration");
  Status now;
  now.path = run_dir;
  now.sign = last_sign_of_life(run_dir);
  now.owner = look_at_owner(run_dir);
  now.exit = read_exit_report(run_dir);
  now.stop_asked = end_requested(run_dir);
  now.account = read_account(run_dir, now.sign ? now.sign->time_s : 0);
  now.checkpoints = checkpoint_steps(run_dir);
  now.kept_chunks = count_chunks(run_dir, now.checkpoints.empty() ? 0 : now.checkpoints.back());
  LastRecords last = last_records(run_dir, kStepsShown);
  now.steps = std::move(last.steps);
  now.validation = std::move(last.evaluation);
  now.best = std::move(last.best);
  now.experts = std::move(last.experts);
  judge(now);
  return now;
}

}  // namespace svfleet
