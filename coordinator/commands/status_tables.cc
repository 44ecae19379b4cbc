#include "coordinator/commands/status_tables.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "comm/clock.h"
#include "coordinator/commands/status_json.h"
#include "coordinator/run/account.h"
#include "coordinator/run/columns.h"
#include "coordinator/run/progress.h"

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

}  // namespace

double number(const json& record, const char* key) {
  return record.contains(key) && record[key].is_number() ? record[key].get<double>() : NAN;
}

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
                    number(task, "accuracy"), number(task, "score"), number(task, "ended_fraction"),
                    number(task, "mean_tokens"));
  };
  const auto title = [](const char* what, const json& record) {
    return std::string(what) + std::to_string(record.value("step", int64_t{0}));
  };
  if (!now.steps.empty()) table(title("step ", now.steps.back()), by_task(now.steps.back()));
  if (!now.validation.is_null())
    table(title("validation after step ", now.validation), by_task(now.validation));
}

void print_steps(const Status& now) {
  if (now.steps.empty()) return;
  size_t columns = 0;  // of the experts' names, where there are several
  const auto expert = [](const json& one) { return one.value("expert", std::string()); };
  for (const json& one : now.steps) columns = std::max(columns, width(expert(one)));
  const auto name = [&](const std::string& text) {
    return columns ? "  " + left(text, std::max<size_t>(columns, 6)) : "";
  };
  std::printf("\n  %8s%s %9s %9s %9s %7s %8s %9s %9s\n", "step", name("expert").c_str(), "reward",
              "accuracy", "score", "ended", "tokens", "tokens/s", "seconds");
  for (const json& one : now.steps) {
    // Older runs call the score accuracy.
    const char* score = one.contains("score") ? "score" : "accuracy";
    std::printf("  %8lld%s %9.3f %9.3f %9.3f %7.2f %8.1f %9.1f %9.2f\n",
                static_cast<long long>(one.value("step", int64_t{0})), name(expert(one)).c_str(),
                number(one, "reward"), number(one, "accuracy"), number(one, score),
                number(one, "ended_fraction"), number(one, "mean_tokens"),
                number(one, "tokens_per_s"), number(one, "wall_s"));
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

}  // namespace svfleet
