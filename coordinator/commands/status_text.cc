#include "coordinator/commands/status_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/clock.h"
#include "comm/counted.h"
#include "coordinator/commands/status_json.h"
#include "coordinator/commands/status_tables.h"
#include "coordinator/run/account.h"
#include "coordinator/run/columns.h"
#include "coordinator/run/progress.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string validation_text(const json& found) {
  char line[120];
  std::snprintf(line, sizeof line, "right %.3f [%.3f, %.3f]", number(found, "accuracy"),
                number(found, "low"), number(found, "high"));
  std::string text = line;
  if (found.contains("score")) {  // older runs have none
    std::snprintf(line, sizeof line, ", score %.3f", number(found, "score"));
    text += line;
  }
  return text + " after step " + std::to_string(found.value("step", int64_t{0}));
}

// A line a rank: the chunks that it has held for long, longest first, of any worker. "rank 1 holds
// chunk 4 for 2:10 and chunk 7 for 0:40".
std::vector<std::string> held_texts(const std::vector<Holding>& out) {
  std::map<int, std::vector<std::string>> by_rank;
  for (const Holding& held : out)
    if (held.seconds > 2 * kPulseSeconds)
      by_rank[held.rank].push_back("chunk " + std::to_string(held.chunk) + " for " +
                                   time_text(held.seconds));
  std::vector<std::string> lines;
  for (const auto& [rank, chunks] : by_rank) {
    std::string& line = lines.emplace_back("rank " + std::to_string(rank) + " holds ");
    for (size_t i = 0; i < chunks.size(); ++i)
      line += (i == 0 ? "" : i + 1 < chunks.size() ? ", " : " and ") + chunks[i];
  }
  return lines;
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
    for (const std::string& text : held_texts(now.sign->out)) row("out", text);
  }
  std::string saved;
  for (const int64_t one : now.checkpoints)
    saved += (saved.empty() ? "" : ", ") + std::to_string(one);
  row("checkpoints", saved.empty() ? "none" : "after step " + saved);
  if (!now.live && now.kept_chunks > 0)
    row("kept", counted(now.kept_chunks, "finished chunk") + " since then: a start goes on with " +
                    (now.kept_chunks == 1 ? "it" : "them"));
  if (!now.validation.is_null()) row("validation", validation_text(now.validation));
  if (!now.best.is_null()) row("best", validation_text(now.best) + ": experts/best.safetensors");
  for (const auto& [expert, of] : now.experts) {
    row("validation", expert + ": " + validation_text(of.evaluation));
    if (!of.best.is_null())
      row("best", validation_text(of.best) + ": experts/" + expert + "/best.safetensors");
  }
}

}  // namespace

void print_status(const Status& now) {
  std::printf("%-12s %s\n", "run", now.path.c_str());
  std::printf("%-12s %s%s%s\n", "state", now.state.c_str(), now.advice.empty() ? "" : "; ",
              now.advice.c_str());
  print_progress(now);
  print_steps(now);
  print_tasks(now);
  print_attempts(now);
  print_time(now);
}

}  // namespace svfleet
