// svfleet train: opens a run, trains, and reports how it ended.
#include <spdlog/spdlog.h>

#include "checkpoints/file.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/train_result.h"
#include "coordinator/crew/ending.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/best.h"
#include "coordinator/training/loop.h"
#include "coordinator/training/start.h"

namespace svfleet {
namespace {

constexpr char kTimeShort[] = "time limit near";

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
  const RunState state = loop.state();
  report_end(folder, crew, tell.ledger.get(), code, reason, loop.saved_step(), &state);
  if (!crew.leads()) return code;
  // Not before the report: killed in between, the next start ends as well.
  if (code == kExitFinished) withdraw_end_request(folder.path());
  if (loop.asked_to_end())
    tell_asked_to_end(state, folder, line.json);
  else if (code == kExitFinished)
    tell_finished(state, config, /*already=*/false, line.json);
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
  const std::vector<ExpertPlan> experts =
      plan_experts(config, opened.base, std::move(opened.items));
  for (const auto& [name, own, plan] : experts) {
    for (const Task& task : plan.tasks)
      crew.agree("training items in '" + task.spec.train + "'", task.content_hash);
    crew.agree("settings", plan.bits);
    crew.agree("validation data", plan.validated_on);
  }

  Start start = state_to_start_from(opened, experts, folder, line, config, crew.leads());
  const bool was_finished = is_finished(start.state, config) && folder.is_closed();
  if (!was_finished && crew.leads()) tell_start(opened, experts, start, folder, config, crew, tell);
  Narrator::To to;
  if (crew.leads()) to = {opened.log.get(), tell.ledger.get(), tell.pulse.get()};
  TrainingLoop loop({config, crew, opened.base, folder, experts}, std::move(start.state),
                    start.resumed, to, opened.load_s);
  loop.mend_best();
  if (was_finished) return already_finished(loop.state(), folder, line, config, crew, tell);
  return train(loop, folder, line, config, crew, tell);
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
