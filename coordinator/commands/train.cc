// svfleet train: opens a run, trains, and reports how it ended.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "coordinator/commands/commands.h"
#include "coordinator/crew/ending.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/best.h"
#include "coordinator/training/loop.h"
#include "coordinator/training/start.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr char kTimeShort[] = "time limit near";

// The last line of a finished run. Validation, where there is one, chooses the expert.
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

// The last line of a run that ended before it was finished, as somebody had asked.
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

// A finished run that is started again; in a job, its script must not start it once more.
int already_finished(const RunState& state, const RunFolder& folder, const CommandLine& line,
                     const Config& config, Crew& crew, Telling& tell) {
  if (!slurm_job().job.empty())
    report_end(folder, crew, tell.ledger.get(), kExitFinished, how_it_finished(state, config),
               state.step, &state);
  if (crew.leads()) tell_finished(state, config, /*already=*/true, line.json);
  return kExitFinished;
}

int stopped_before_training(const RunFolder& folder, Crew& crew, Telling& tell) {
  if (crew.leads())
    spdlog::warn(
        "stopped before the first step: the matrices decomposed so far are kept; start "
        "again to go on");
  report_end(folder, crew, tell.ledger.get(), kExitRequeue, crew.time_was_short() ? kTimeShort : "",
             -1);
  return kExitRequeue;
}

int train(TrainingLoop& loop, const RunFolder& folder, const CommandLine& line,
          const Config& config, Crew& crew, Telling& tell) {
  int code = kExitFinished;
  try {
    code = loop.run();
  } catch (...) {
    end_soon(std::current_exception(), crew);  // what is told may wait for a disk that hangs
    throw;
  }
  std::string reason;
  if (code != kExitFinished && crew.time_was_short()) reason = kTimeShort;
  if (code == kExitFinished) reason = how_it_finished(loop.state(), config);
  if (loop.asked_to_end()) reason = "stopped as 'svfleet stop' asked";
  report_end(folder, crew, tell.ledger.get(), code, reason, loop.saved_step(), &loop.state());
  if (!crew.leads()) return code;
  // Not before the report: killed in between, the next start ends as well.
  if (code == kExitFinished) withdraw_end_request(folder.path());
  if (loop.asked_to_end())
    tell_asked_to_end(loop.state(), folder, line.json);
  else if (code == kExitFinished)
    tell_finished(loop.state(), config, /*already=*/false, line.json);
  return code;
}

int train_in(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew,
             Telling& tell) {
  Opened opened = look_at(folder, line, config, crew);
  tell.spent("set_up");
  switch (load(opened, folder, config, crew, tell)) {
    case Loaded::kStopped:
      return stopped_before_training(folder, crew, tell);
    case Loaded::kNothingLeft:
      return already_finished(*opened.found, folder, line, config, crew, tell);
    case Loaded::kAll:
      break;
  }
  const TrainingPlan plan = make_plan(config, opened.base, std::move(opened.items));
  for (const Task& task : plan.tasks)
    crew.agree("training items in '" + task.spec.train + "'", task.content_hash);
  crew.agree("settings", plan.bits);
  crew.agree("validation data", plan.validated_on);

  Start start = state_to_start_from(opened, plan, folder, line, config, crew.leads());
  const bool was_finished =
      is_finished(start.state, config) && file_exists(folder.expert_path("final"));
  if (!was_finished && crew.leads()) tell_start(opened, plan, start, folder, config, crew, tell);
  Narrator::To to;
  if (crew.leads()) to = {opened.log.get(), tell.ledger.get(), tell.pulse.get()};
  TrainingLoop loop({config, crew, opened.base, folder, plan}, std::move(start.state),
                    start.resumed, to, opened.load_s);
  loop.mend_best();
  if (was_finished) return already_finished(loop.state(), folder, line, config, crew, tell);
  return train(loop, folder, line, config, crew, tell);
}

// Collective. A finished run in a folder that cannot be written stays as it is: says so when these
// are its settings.
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

}  // namespace

int train_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  const InStage running(Stage::kStep);  // to the last file that is closed
  if (is_closed_and_finished(config, line, crew)) return kExitFinished;
  RunFolder folder(config, crew.group());
  // Not before: a log that an earlier owner has open is replaced when the folder is taken.
  if (crew.leads()) open_messages(folder.path(), 0);
  Telling tell = start_telling(config, folder, crew);
  try {
    return train_in(folder, line, config, crew, tell);
  } catch (...) {
    throw report_failure(std::current_exception(), folder, crew, tell.ledger.get());
  }
}

}  // namespace svfleet
