#include "coordinator/commands/train_result.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"

namespace svfleet {

using nlohmann::json;

void tell_finished(const RunState& end, const Config& config, bool already, bool as_json) {
  const auto expert = [&](const char* name) {
    return config.run_dir + "/experts/" + name + ".safetensors";
  };
  const bool validated = end.best_step >= 0;
  // Where the best is gone and could not be made again, a warning has said so.
  const bool has_best = validated && file_exists(expert("best"));
  const std::string best = expert(has_best ? "best" : "final");
  const json result = {{"steps", end.step},
                       {"already_finished", already},
                       {"reason", stopped_early(end, config) ? "early_stop" : "finished"},
                       {"expert", expert("final")},
                       {"best_validation", validated ? json(end.best_score) : json()},
                       {"best_step", validated ? json(end.best_step) : json()},
                       {"best_expert", best},
                       {"hash", state_hash(end)}};
  std::printf("%s\n",
              as_json ? result.dump().c_str() : last_words(end, config, already, best).c_str());
}

void tell_asked_to_end(const RunState& state, const RunFolder& folder, bool as_json) {
  const std::string expert = folder.expert_path("last");
  const json result = {{"steps", state.step},
                       {"stopped_as_asked", true},
                       {"expert", expert},
                       {"hash", state_hash(state)}};
  if (as_json)
    std::printf("%s\n", result.dump().c_str());
  else
    std::printf("stopped after step %lld as 'svfleet stop' asked: %s; start again to go on\n",
                static_cast<long long>(state.step), expert.c_str());
}

bool is_closed_and_finished(const Config& config, const CommandLine& line, Crew& crew) {
  std::string told;
  const std::string final = config.run_dir + "/experts/final.safetensors";
  if (crew.leads() && line.fork.empty() && access(config.run_dir.c_str(), W_OK) != 0 &&
      (errno == EROFS || errno == EACCES) && file_exists(final)) {
    const auto state = load_newest_checkpoint(config.run_dir).state;
    const json bits = state ? json::parse(state->bits_config, nullptr, false) : json();
    if (state && is_finished(*state, config) && bits.is_object() &&
        bits.value("settings", json()) == json::parse(bits_config(config))) {
      tell_finished(*state, config, /*already=*/true, line.json);
      told = "finished";
    }
  }
  crew.group().broadcast(told, 0, "look at a finished run");
  return !told.empty();
}

}  // namespace svfleet
