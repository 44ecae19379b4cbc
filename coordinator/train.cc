// svfleet train: opens what a run needs, checks that it may go on, and reports how it ended.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "cluster/exit_report.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/commands.h"
#include "coordinator/identity.h"
#include "coordinator/trainer.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Collective: until the allocation ends. One rank asks Slurm for all.
std::optional<double> seconds_left(Crew& crew) {
  std::string told;
  if (crew.leads())
    if (const auto left = seconds_left_in_job()) told = std::to_string(*left);
  crew.group().broadcast(told, 0, "end of the allocation");
  if (told.empty()) return std::nullopt;
  return std::stod(told);
}

// RUN/exit.json, which the job script reads.
void report_end(const RunFolder& folder, Crew& crew, int code, std::string reason, int64_t step) {
  if (!crew.leads()) return;
  folder.verify_owner();  // a writer that was taken over says nothing about the run
  const std::string signal = stop_signal_name();
  if (reason.empty() && code == kExitFinished) reason = "finished";
  if (reason.empty())
    reason = "stopped by " + (signal.empty() ? "a signal to another rank" : signal);
  const SlurmJob slurm = slurm_job();
  write_exit_report(folder.path(), {reason, code, slurm.job, slurm.restarts, step});
}

int train_in(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew) {
  // What an earlier attempt said is over: without a report, this one was killed. A finished run
  // keeps its own.
  if (crew.leads() && !file_exists(folder.expert_path("final"))) remove_exit_report(folder.path());
  const std::string hardware = identity({torch_identity(), config.threads, crew.device().gpu});
  crew.agree("hardware and build", hardware);
  Base base = open_base(config, crew);
  if (!open_factors(config, crew, base)) {
    report_end(folder, crew, kExitRequeue, "", -1);
    return kExitRequeue;
  }
  const TrainingPlan plan = make_plan(config, base);
  crew.agree("training data and settings", plan.bits);

  RunState fresh = first_state(config, base, plan, hardware);
  std::optional<RunState> found = folder.newest(crew);
  std::vector<std::string> different;  // from the hardware and build of the run so far
  if (found) {
    check_resumable(*found, fresh, line.allow_different_hardware);
    SVFLEET_CHECK(found->position == found->step * config.train.prompts_per_step, found->position,
                  " prompts consumed after step ", found->step);
    for (const std::string& other : differences(hardware, found->identity, "now", "before")) {
      different.push_back(other);
      if (crew.leads())
        spdlog::warn("other bits than on one kind of machine are possible: {}", other);
    }
    found->identity = hardware;
  }
  std::unique_ptr<RunLog> log;
  if (crew.leads()) log = std::make_unique<RunLog>(folder.path());
  RunState start = found ? std::move(*found) : std::move(fresh);
  const int64_t start_step = start.step;
  AllocationEnd allocation(seconds_left(crew));
  Trainer trainer{config,           crew,       base, folder, plan, log.get(), allocation,
                  std::move(start), start_step, {},   {},     {}};
  const bool was_finished = trainer.finished() && file_exists(folder.expert_path("final"));
  int code = kExitFinished;
  if (!was_finished) {
    if (crew.leads()) {
      remove_exit_report(folder.path());
      spdlog::info("{} {}, {} ranks, {} workers here",
                   found ? "resuming after step" : "starting at step", trainer.state.step,
                   crew.ranks(), crew.workers());
      log->event(found ? "resume" : "start", {{"step", trainer.state.step},
                                              {"ranks", crew.ranks()},
                                              {"workers", crew.workers()},
                                              {"identity", json::parse(hardware)},
                                              {"different_hardware", different},
                                              {"parameters", trainer.state.p.size()},
                                              {"state_hash", state_hash(trainer.state)}});
      if (!found) trainer.checkpoint();
    }
    code = trainer.run();
    const bool in_time = code == kExitFinished || !allocation.was_short();
    report_end(folder, crew, code, in_time ? "" : "time limit near", trainer.saved_step);
  } else if (!slurm_job().job.empty()) {  // its job script must not start it again
    report_end(folder, crew, code, "", trainer.state.step);
  }
  if (crew.leads() && code == kExitFinished) {
    // Validation, where there is one, chooses.
    const std::string best =
        trainer.state.best_step >= 0 ? folder.expert_path("best") : folder.expert_path("final");
    json result = {{"steps", trainer.state.step},
                   {"already_finished", was_finished},
                   {"expert", folder.expert_path("final")},
                   {"best_validation", trainer.state.best_score},
                   {"best_expert", best},
                   {"hash", state_hash(trainer.state)}};
    if (line.json)
      std::printf("%s\n", result.dump().c_str());
    else
      std::printf("%s after %lld steps: %s\n", was_finished ? "already finished" : "finished",
                  static_cast<long long>(trainer.state.step), best.c_str());
  }
  return code;
}

}  // namespace

int train_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  RunFolder folder(config, crew);
  try {
    return train_in(folder, line, config, crew);
  } catch (const Error& error) {
    try {
      report_end(folder, crew, error.code(), error.what(), -1);
    } catch (const Error&) {  // the folder itself may be what failed
    }
    throw;
  }
}

}  // namespace svfleet
