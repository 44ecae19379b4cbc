// svfleet status and svfleet stop: telling people and programs how a run stands.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/run/account.h"
#include "coordinator/run/columns.h"
#include "coordinator/run/json_line.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/status.h"
#include "coordinator/run/stop_request.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr size_t kAttemptsShown = 10;

std::string span_text(double seconds) {
  if (seconds >= 600) return time_text(seconds);
  char text[40];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

std::string clock_text(double seconds) {
  return utc(seconds, "%Y-%m-%d %H:%M:%S");
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
  for (json step : now.steps) {
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
              {"kept_chunks", now.kept_chunks},
              {"attempts", attempts},
              {"seconds", now.account.seconds},
              {"total_s", now.account.total_s},
              {"goodput", now.account.goodput},
              {"last_steps", steps},
              {"last_validation", now.validation},
              {"best_validation", now.best}};
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

std::string validation_text(const json& found) {
  char line[120];
  std::snprintf(line, sizeof line, "right %.3f [%.3f, %.3f]", of(found, "accuracy"),
                of(found, "low"), of(found, "high"));
  std::string text = line;
  if (found.contains("score")) {  // older runs have none
    std::snprintf(line, sizeof line, ", score %.3f", of(found, "score"));
    text += line;
  }
  return text + " after step " + std::to_string(found.value("step", int64_t{0}));
}

// Where there are several.
void print_tasks(const Status& now) {
  const auto by_task = [](const json& record) {
    const json none = json::array();
    return record.is_object() && record.contains("by_task") && record["by_task"].is_array()
               ? record["by_task"]
               : none;
  };
  const auto table = [](const std::string& title, const json& tasks) {
    if (tasks.size() < 2) return;
    const auto name = [](const json& task) { return task.value("task", std::string("?")); };
    size_t columns = 24;
    for (const json& task : tasks)
      if (task.is_object()) columns = std::max(columns, width(name(task)));
    std::printf("\n  %s %9s %9s %7s %8s\n", left(title, columns).c_str(), "accuracy", "score",
                "ended", "tokens");
    for (const json& task : tasks)
      if (task.is_object() && task.contains("accuracy") && task["accuracy"].is_null())
        std::printf("  %s %9s %9s %7s %8s\n", left(name(task), columns).c_str(), "-", "-", "-",
                    "-");
      else if (task.is_object())
        std::printf("  %s %9.3f %9.3f %7.2f %8.1f\n", left(name(task), columns).c_str(),
                    of(task, "accuracy"), of(task, "score"), of(task, "ended_fraction"),
                    of(task, "mean_tokens"));
  };
  const auto title = [](const char* what, const json& record) {
    return std::string(what) + std::to_string(record.value("step", int64_t{0}));
  };
  if (!now.steps.empty()) table(title("step ", now.steps.back()), by_task(now.steps.back()));
  if (!now.validation.is_null())
    table(title("validation after step ", now.validation), by_task(now.validation));
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
  if (!now.live && now.kept_chunks > 0)
    row("kept", std::to_string(now.kept_chunks) + " finished chunk" +
                    (now.kept_chunks == 1 ? "" : "s") + " since then: a start goes on with " +
                    (now.kept_chunks == 1 ? "it" : "them"));
  if (!now.validation.is_null()) row("validation", validation_text(now.validation));
  if (!now.best.is_null()) row("best", validation_text(now.best) + ": experts/best.safetensors");
}

void print_steps(const Status& now) {
  if (now.steps.empty()) return;
  std::printf("\n  %8s %9s %9s %9s %7s %8s %9s %9s\n", "step", "reward", "accuracy", "score",
              "ended", "tokens", "tokens/s", "seconds");
  for (const json& one : now.steps) {
    // Older runs call the score accuracy.
    const char* score = one.contains("score") ? "score" : "accuracy";
    std::printf("  %8lld %9.3f %9.3f %9.3f %7.2f %8.1f %9.1f %9.2f\n",
                static_cast<long long>(one.value("step", int64_t{0})), of(one, "reward"),
                of(one, "accuracy"), of(one, score), of(one, "ended_fraction"),
                of(one, "mean_tokens"), of(one, "tokens_per_s"), of(one, "wall_s"));
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
    std::printf("  %-19s  %s %5lld %13s %11s  %s\n", clock_text(one.began_s).c_str(),
                left(job.empty() ? "-" : job, 18).c_str(),
                static_cast<long long>(one.attempt.ranks), steps.c_str(), first.c_str(),
                how_it_ended(now, i).c_str());
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
  const Status now = look_at_run(without_slash(line.path));
  if (line.json) {
    std::printf("%s\n", json_line(to_json(now)).c_str());
    return kExitFinished;
  }
  std::printf("%-12s %s\n", "run", now.path.c_str());
  std::printf("%-12s %s%s%s\n", "state", now.state.c_str(), now.advice.empty() ? "" : "; ",
              now.advice.c_str());
  print_progress(now);
  print_steps(now);
  print_tasks(now);
  print_attempts(now);
  print_time(now);
  return kExitFinished;
}

int stop_command(const CommandLine& line) {
  const Status now = look_at_run(without_slash(line.path));
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
