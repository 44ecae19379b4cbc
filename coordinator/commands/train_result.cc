#include "coordinator/commands/train_result.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "coordinator/config/run_file.h"

namespace svfleet {

using nlohmann::json;

namespace {

json finished_expert(const RunState& end, const Config& config, const std::string& name) {
  const auto expert = [&](const char* file) { return expert_path(config.run_dir, file, name); };
  const bool validated = end.best_step >= 0;
  // Where the best is gone and could not be made again, a warning has said so.
  const bool has_best = validated && file_exists(expert("best"));
  const std::string best = expert(has_best ? "best" : "final");
  return {{"steps", end.step},
          {"reason", stopped_early(end, config) ? "early_stop" : "finished"},
          {"expert", expert("final")},
          {"best_validation", validated ? json(end.best_score) : json()},
          {"best_step", validated ? json(end.best_step) : json()},
          {"best_expert", best},
          {"hash", state_hash(end)}};
}

}  // namespace

void tell_finished(const RunState& end, const Config& config, bool already, bool as_json) {
  const std::vector<Config> runs = runs_of_one(config);
  const std::vector<std::string> names = names_of(end);
  json result = {{"steps", end.step}, {"hash", state_hash(end)}};
  std::string where = config.run_dir + "/experts";
  for (size_t e = 0; e < runs.size(); ++e) {
    json one = finished_expert(*states_of(end)[e], runs[e], names[e]);
    if (names[e].empty()) {
      where = one["best_expert"];
      result = one;
      continue;
    }
    one["name"] = names[e];
    result["experts"].push_back(one);
  }
  result["already_finished"] = already;
  std::printf("%s\n",
              as_json ? result.dump().c_str() : last_words(end, config, already, where).c_str());
}

void tell_asked_to_end(const RunState& state, const RunFolder& folder, bool as_json) {
  json result = {{"steps", state.step}, {"stopped_as_asked", true}, {"hash", state_hash(state)}};
  std::string expert = folder.path() + "/experts";
  for (const std::string& name : names_of(state)) {
    const std::string last = folder.expert_path("last", name);
    if (name.empty())
      result["expert"] = expert = last;
    else
      result["experts"].push_back({{"name", name}, {"expert", last}});
  }
  if (as_json)
    std::printf("%s\n", result.dump().c_str());
  else
    std::printf("stopped after step %lld as 'svfleet stop' asked: %s; start again to go on\n",
                static_cast<long long>(state.step), expert.c_str());
}

namespace {

bool has_settings(const RunState& run, const Config& config) {
  if (names_of(run) != expert_names(config)) return false;
  const std::vector<Config> runs = runs_of_one(config);
  for (size_t e = 0; e < runs.size(); ++e) {
    const json bits = json::parse(states_of(run)[e]->bits_config, nullptr, false);
    if (!bits.is_object() || bits.value("settings", json()) != json::parse(bits_config(runs[e])))
      return false;
  }
  return true;
}

}  // namespace

bool is_closed_and_finished(const Config& config, const CommandLine& line, Crew& crew) {
  std::string told;
  if (crew.leads() && line.fork.empty() && access(config.run_dir.c_str(), W_OK) != 0 &&
      (errno == EROFS || errno == EACCES) && has_final(config.run_dir, expert_names(config))) {
    const auto state = load_newest_checkpoint(config.run_dir).state;
    if (state && has_settings(*state, config) && is_finished(*state, config)) {
      tell_finished(*state, config, /*already=*/true, line.json);
      told = "finished";
    }
  }
  crew.group().broadcast(told, 0, "look at a finished run");
  return !told.empty();
}

}  // namespace svfleet
