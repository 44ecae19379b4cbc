#include "coordinator/commands/status_json.h"

namespace svfleet {

using nlohmann::json;

double seconds_left(const Status& now) {
  if (!now.live || now.sign->steps_per_s <= 0) return -1;
  const double done =
      double(now.sign->step) + (now.sign->chunks_per_step
                                    ? double(now.sign->chunks) / double(now.sign->chunks_per_step)
                                    : 0);
  return (double(now.sign->steps) - done) / now.sign->steps_per_s;
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
  if (now.sign) {
    json held = json::array();  // chunks, with who computes them since when
    for (const Holding& one : now.sign->out)
      held.push_back({{"chunk", one.chunk}, {"rank", one.rank}, {"seconds", one.seconds}});
    out["sign"] = {{"time", now.sign->time_s},
                   {"doing", now.sign->doing},
                   {"step", now.sign->step},
                   {"steps", now.sign->steps},
                   {"chunks", now.sign->chunks},
                   {"chunks_per_step", now.sign->chunks_per_step},
                   {"steps_per_s", now.sign->steps_per_s},
                   {"out", std::move(held)}};
  }
  for (const auto& [name, of] : now.experts)
    out["experts"].push_back(
        {{"name", name}, {"last_validation", of.evaluation}, {"best_validation", of.best}});
  if (const double left = seconds_left(now); left >= 0) out["seconds_left"] = left;
  return out;
}

}  // namespace svfleet
