// svfleet status and svfleet stop: what a run is doing, from any machine that sees its folder.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/owner.h"
#include "cluster/exit_report.h"
#include "cluster/program.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/account.h"
#include "coordinator/commands.h"
#include "coordinator/progress.h"
#include "coordinator/pulse.h"
#include "coordinator/run_log.h"
#include "coordinator/stop_request.h"

namespace svfleet {
namespace {

using nlohmann::json;

// A living run gives a sign every kPulseSeconds; disks and clocks of other machines may lag.
constexpr double kSilentSeconds = 30;
constexpr size_t kStepsShown = 5, kAttemptsShown = 10;

struct Status {
  std::string path, state, advice;
  bool live = false, finished = false, stop_asked = false;
  std::optional<SignOfLife> sign;
  std::optional<OwnerSeen> owner;
  std::optional<ExitReport> exit;
  Account account;
  std::vector<int64_t> checkpoints;
  std::vector<json> steps;  // of the log, oldest first
  json best;                // the last validation, or null
};

std::string span_text(double seconds) {
  if (seconds >= 600) return time_text(seconds);
  char text[40];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

std::string clock_text(double seconds) {
  const auto whole = std::time_t(seconds);
  std::tm utc{};
  gmtime_r(&whole, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  return text;
}

std::string job_text(const std::string& job, int64_t restarts) {
  if (job.empty()) return "";
  return "job " + job + (restarts > 0 ? ", restart " + std::to_string(restarts) : "");
}

// Slurm's words for a job, such as "PENDING (Resources)"; "" when nobody can be asked.
std::string job_state(const std::string& job) {
  if (job.empty() || job.find_first_not_of("0123456789_+") != std::string::npos) return "";
  const Answer answer = run_program({"squeue", "-a", "-h", "-j", job, "-o", "%T (%r)"}, 10);
  if (!answer.complete || answer.exit_code != 0) return "";
  return answer.out.substr(0, answer.out.find('\n'));
}

void judge(Status& now) {
  const Account& account = now.account;
  const double silent_s = now.sign ? wall_clock_s() - now.sign->time_s : INFINITY;
  now.live = now.owner && !now.owner->dead && std::abs(silent_s) <= kSilentSeconds;
  now.finished = file_exists(now.path + "/experts/final.safetensors");
  if (now.live) {
    const std::string job = job_text(now.owner->who.job, now.owner->who.restarts);
    now.state = "running on " + now.owner->who.host + (job.empty() ? "" : " (" + job + ")");
    if (now.stop_asked) now.state += ", ends after its next checkpoint";
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
  } else if (account.waits && !account.last_job.empty() && job_ended(account.last_job)) {
    now.state = "not running: job " + account.last_job + " has ended";
    now.advice = "submit it again to go on";
    now.account.waits = false;
  } else if (account.waits) {
    const std::string slurm = job_state(account.last_job);
    now.state = "waiting in the queue" + (slurm.empty() ? "" : ": Slurm says " + slurm);
    // JobHeldUser, JobHeldAdmin, "launch failed requeued held"; a reason may also name nodes.
    if (slurm.find("(JobHeld") != slurm.npos || slurm.find(" held") != slurm.npos)
      now.advice = "Slurm will not start it before 'scontrol release " + account.last_job + "'";
  } else if (now.exit) {
    now.state = now.exit->code == kExitFinished
                    ? now.exit->reason
                    : "ended with code " + std::to_string(now.exit->code) + ": " + now.exit->reason;
    now.advice = "start it again to go on";
  } else if (now.checkpoints.empty() && account.attempts.empty()) {
    now.state = "never started";
  } else {
    now.state = "not running";
    now.advice = "start it again to go on";
  }
}

Status look(const std::string& run_dir) {
  if (!is_folder(run_dir)) throw user_error("there is no folder '", run_dir, "'");
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
  for (const std::string& name : list_folder(run_dir + "/checkpoints")) {
    long long step = 0;
    char rest = 0;
    if (std::sscanf(name.c_str(), "step-%lld.h5%c", &step, &rest) == 1)
      now.checkpoints.push_back(step);
  }
  std::sort(now.checkpoints.begin(), now.checkpoints.end());
  for (json& record : read_log(run_dir).records) {
    const std::string kind = record.value("kind", "");
    if (kind == "step") now.steps.push_back(std::move(record));
    if (kind == "evaluation") now.best = std::move(record);
  }
  judge(now);
  return now;
}

double seconds_left(const Status& now) {
  if (!now.live || now.sign->steps_per_s <= 0) return -1;
  const double done =
      double(now.sign->step) + (now.sign->chunks_per_step
                                    ? double(now.sign->chunks) / double(now.sign->chunks_per_step)
                                    : 0);
  return (double(now.sign->steps) - done) / now.sign->steps_per_s;
}

double of(const json& record, const char* key) {
  return record.contains(key) && record[key].is_number() ? record[key].get<double>() : NAN;
}

std::string how_it_ended(const Status& now, size_t i) {
  const AttemptReport& one = now.account.attempts[i];
  if (!one.reason.empty()) return one.reason;
  if (i + 1 == now.account.attempts.size() && now.live) return "running";
  return "left no word: killed";
}

json to_json(const Status& now) {
  json attempts = json::array();
  for (size_t i = 0; i < now.account.attempts.size(); ++i) {
    const AttemptReport& one = now.account.attempts[i];
    attempts.push_back({{"job", one.attempt.job},
                        {"restarts", one.attempt.restarts},
                        {"start", one.attempt.start},
                        {"ranks", one.attempt.ranks},
                        {"hosts", one.attempt.hosts},
                        {"began", one.began_s},
                        {"ended", one.ended_s},
                        {"code", one.code},
                        {"reason", how_it_ended(now, i)},
                        {"first_step", one.first_step},
                        {"last_step", one.last_step},
                        {"restored_chunks", one.restored_chunks},
                        {"first_chunk_s", one.first_chunk_s},
                        {"load_s", one.load_s}});
  }
  json steps = json::array();
  for (size_t i = now.steps.size() - std::min(now.steps.size(), kStepsShown); i < now.steps.size();
       ++i) {
    json step = now.steps[i];
    step.erase("z");
    steps.push_back(step);
  }
  json out = {{"run", now.path},
              {"state", now.state},
              {"advice", now.advice},
              {"live", now.live},
              {"finished", now.finished},
              {"stop_asked", now.stop_asked},
              {"checkpoints", now.checkpoints},
              {"attempts", attempts},
              {"seconds", now.account.seconds},
              {"total_s", now.account.total_s},
              {"goodput", now.account.goodput},
              {"last_steps", steps},
              {"last_validation", now.best}};
  if (now.sign)
    out["sign"] = {{"time", now.sign->time_s},
                   {"doing", now.sign->doing},
                   {"step", now.sign->step},
                   {"steps", now.sign->steps},
                   {"chunks", now.sign->chunks},
                   {"chunks_per_step", now.sign->chunks_per_step},
                   {"steps_per_s", now.sign->steps_per_s}};
  if (const double left = seconds_left(now); left >= 0) out["seconds_left"] = left;
  return out;
}

void print_progress(const Status& now) {
  const auto row = [](const char* name, const std::string& text) {
    std::printf("%-12s %s\n", name, text.c_str());
  };
  int64_t step = now.checkpoints.empty() ? 0 : now.checkpoints.back();
  if (now.sign) step = std::max(step, now.sign->step);  // a sign may be some seconds old
  std::string text = "step " + std::to_string(step);
  if (now.sign && now.sign->steps > 0) text += " of " + std::to_string(now.sign->steps);
  if (now.live && now.sign->chunks_per_step > 0 && now.sign->step == step)
    text += ", " + std::to_string(now.sign->chunks) + " of " +
            std::to_string(now.sign->chunks_per_step) + " chunks of the next";
  row("progress", text);
  if (now.live) {
    row("doing", now.sign->doing + " for " + time_text(now.sign->time_s - now.sign->doing_since_s) +
                     "; last sign of life " + time_text(wall_clock_s() - now.sign->time_s) +
                     " ago");
    if (const double left = seconds_left(now); left >= 0) {
      const double per_hour = 3600 * now.sign->steps_per_s;
      char rate[40];
      if (per_hour < 1000)
        std::snprintf(rate, sizeof rate, "%.1f steps an hour", per_hour);
      else
        std::snprintf(rate, sizeof rate, "%.1f steps a minute", per_hour / 60);
      row("rate", std::string(rate) + ", " + time_text(left) + " left");
    }
    for (const Holding& held : now.sign->out)
      if (held.seconds > 2 * kPulseSeconds)
        row("out", "chunk " + std::to_string(held.chunk) + " at rank " + std::to_string(held.rank) +
                       " for " + time_text(held.seconds));
  }
  std::string saved;
  for (const int64_t one : now.checkpoints)
    saved += (saved.empty() ? "" : ", ") + std::to_string(one);
  row("checkpoints", saved.empty() ? "none" : "after step " + saved);
  if (!now.best.is_null()) {
    char line[120];
    std::snprintf(line, sizeof line, "%.3f [%.3f, %.3f] after step %lld", of(now.best, "accuracy"),
                  of(now.best, "low"), of(now.best, "high"),
                  static_cast<long long>(now.best.value("step", int64_t{0})));
    row("validation", line);
  }
}

void print_steps(const Status& now) {
  if (now.steps.empty()) return;
  std::printf("\n  %8s %9s %9s %7s %8s %9s %9s\n", "step", "reward", "accuracy", "ended", "tokens",
              "tokens/s", "seconds");
  for (size_t i = now.steps.size() - std::min(now.steps.size(), kStepsShown); i < now.steps.size();
       ++i) {
    const json& one = now.steps[i];
    std::printf("  %8lld %9.3f %9.3f %7.2f %8.1f %9.1f %9.2f\n",
                static_cast<long long>(one.value("step", int64_t{0})), of(one, "reward"),
                of(one, "accuracy"), of(one, "ended_fraction"), of(one, "mean_tokens"),
                of(one, "tokens_per_s"), of(one, "wall_s"));
  }
}

void print_attempts(const Status& now) {
  const auto& all = now.account.attempts;
  if (all.empty()) return;
  std::printf("\n  %-19s  %-18s %5s %13s %11s  %s\n", "started (UTC)", "job", "ranks", "steps",
              "1st chunk", "how it ended");
  for (size_t i = all.size() - std::min(all.size(), kAttemptsShown); i < all.size(); ++i) {
    const AttemptReport& one = all[i];
    std::string steps = "-", first = "-";
    if (one.first_step >= 0)
      steps = std::to_string(one.first_step) + " to " + std::to_string(one.last_step);
    if (one.first_chunk_s >= 0) {
      char text[40];
      std::snprintf(text, sizeof text, "after %.1f s", one.first_chunk_s);
      first = text;
    }
    const std::string job = job_text(one.attempt.job, one.attempt.restarts);
    std::printf("  %-19s  %-18s %5lld %13s %11s  %s\n", clock_text(one.began_s).c_str(),
                job.empty() ? "-" : job.c_str(), static_cast<long long>(one.attempt.ranks),
                steps.c_str(), first.c_str(), how_it_ended(now, i).c_str());
  }
  if (all.size() > kAttemptsShown)
    std::printf("  (the last %zu of %zu starts; --json shows all)\n", kAttemptsShown, all.size());
}

void print_time(const Status& now) {
  if (now.account.total_s <= 0) return;
  std::printf("\n  %s in all; goodput %.1f %% (work that counts, of the time in allocations)\n",
              span_text(now.account.total_s).c_str(), 100 * now.account.goodput);
  for (const char* on : kSpentOn) {
    const auto found = now.account.seconds.find(on);
    if (found == now.account.seconds.end() || found->second < 0.05) continue;
    std::printf("  %-12s %12s  %5.1f %%\n", on, span_text(found->second).c_str(),
                100 * found->second / now.account.total_s);
  }
}

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

int status_command(const CommandLine& line) {
  const Status now = look(without_slash(line.path));
  if (line.json) {
    std::printf("%s\n", to_json(now).dump(-1, ' ', false, json::error_handler_t::replace).c_str());
    return kExitFinished;
  }
  std::printf("%-12s %s\n", "run", now.path.c_str());
  std::printf("%-12s %s%s%s\n", "state", now.state.c_str(), now.advice.empty() ? "" : "; ",
              now.advice.c_str());
  print_progress(now);
  print_steps(now);
  print_attempts(now);
  print_time(now);
  return kExitFinished;
}

int stop_command(const CommandLine& line) {
  const Status now = look(without_slash(line.path));
  if (line.take_back) {
    withdraw_end_request(now.path);
    std::printf("%s\n", now.stop_asked ? "the stop is taken back" : "no stop was asked for");
    return kExitFinished;
  }
  if (now.finished && !now.live)
    throw user_error("the run in '", now.path, "' is finished; there is nothing to stop");
  if (!now.owner && !now.account.waits)
    throw user_error("the run in '", now.path, "' is not running (", now.state,
                     "); there is nothing to stop");
  request_end(now.path);
  std::printf("%s\n", now.live ? "the run ends after the step that it is in, with a checkpoint"
                               : "the run is not running now; it ends as soon as it runs again "
                                 "('svfleet stop --take-back' changes that)");
  return kExitFinished;
}

}  // namespace svfleet
