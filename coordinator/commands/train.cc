// svfleet train: opens what a run needs, checks that it may go on, and reports how it ended.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "cluster/exit_report.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "comm/wait.h"
#include "coordinator/base/factors.h"
#include "coordinator/base/splits.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/run_program.h"
#include "coordinator/crew/ending.h"
#include "coordinator/crew/preflight.h"
#include "coordinator/run/identity.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/best.h"
#include "coordinator/training/fork.h"
#include "coordinator/training/loop.h"
#include "worker/libtorch.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr char kTimeShort[] = "time limit near";

// What rank 0 tells about the run as it goes; empty on other ranks.
struct Telling {
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Pulse> pulse;

  void doing(const char* what) {
    if (pulse) pulse->doing(what);
  }
  void spent(const char* on) {
    if (ledger) ledger->spent(on);
  }
};

SignOfLife first_sign(const Config& config, const Crew& crew) {
  const SlurmJob slurm = slurm_job();
  SignOfLife sign;
  sign.host = crew.hosts()[0];
  sign.pid = getpid();
  sign.job = slurm.job;
  sign.restarts = slurm.restarts;
  sign.doing = "loading the model";
  sign.steps = config.train.steps;
  return sign;
}

void start_pulse(const Config& config, const RunFolder& folder, const Crew& crew, Telling& tell) {
  if (tell.ledger && !tell.pulse)
    tell.pulse = std::make_unique<Pulse>(folder.path(), first_sign(config, crew),
                                         [&folder] { folder.verify_owner(); });
}

Telling start_telling(const Config& config, const RunFolder& folder, const Crew& crew) {
  Telling tell;
  if (!crew.leads()) return tell;
  const auto before = last_sign_of_life(folder.path());
  const SlurmJob slurm = slurm_job();
  // A finished run that is started again stays as it is.
  const bool hold = file_exists(folder.expert_path("final"));
  tell.ledger = std::make_unique<Ledger>(
      folder.path(),
      Attempt{slurm.job, slurm.restarts, crew.ranks(), crew.slots(), crew.hosts(), slurm.start},
      process_began_s(), before ? before->time_s : 0, hold);
  if (!hold) start_pulse(config, folder, crew, tell);
  return tell;
}

// Collective: how long a chunk and a save take is known from earlier parts of the run.
void remember_times(const RunLog* log, Crew& crew) {
  std::string told;
  if (log)
    told = std::to_string(log->longest().chunk_s) + " " + std::to_string(log->longest().save_s);
  crew.group().broadcast(told, 0, "times of chunks so far");
  crew.note_piece("chunks", std::stod(told));
  crew.note_save(std::stod(told.substr(told.find(' '))));
}

// The last line of a finished run. Validation, where there is one, chooses the expert.
void tell_finished(const RunState& end, const Config& config, bool already, bool as_json) {
  const auto expert = [&](const char* name) {
    return config.run_dir + "/experts/" + name + ".safetensors";
  };
  const bool validated = end.best_step >= 0;
  const std::string best = expert(validated ? "best" : "final");
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

int train_in(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew,
             Telling& tell) {
  folder.check_seen(crew.group());
  RunItems items;
  crew.on_leader("read the items", [&] {
    items = read_items(config);
    check_items(config, {{"train", items.train}, {"validation", items.validation}});
  });
  // What an earlier attempt said is over: without a report, this one was killed. A finished run
  // keeps its own.
  if (crew.leads() && !file_exists(folder.expert_path("final"))) remove_exit_report(folder.path());
  check_program(folder.path(), crew, line.allow_different_hardware);
  const std::string hardware = identity({torch_identity(), config.threads, crew.device().gpu});
  crew.agree("hardware and build", hardware);
  std::optional<RunState> found = folder.newest(crew.group());
  const std::optional<Fork> fork = open_fork(line, folder, found, crew);
  const int64_t from_step = found ? found->step : fork ? fork->parent.step : 0;
  std::unique_ptr<RunLog> log;
  if (crew.leads()) log = std::make_unique<RunLog>(folder.path());
  remember_times(log.get(), crew);
  const Preflight preflight = preflight_run(config, from_step, !found, crew);
  tell.spent("set_up");
  double load_from = wall_clock_s();
  Base base = open_base(config, crew);
  tell.spent("loading");
  const double opened = wall_clock_s();
  tell.doing("decomposing");
  auto decomposed = decompose_missing(config, crew, base.model->architecture(), base.model->files(),
                                      /*keep=*/true);
  if (!decomposed) {
    if (crew.leads())
      spdlog::warn(
          "stopped before the first step: the matrices decomposed so far are kept; start "
          "again to go on");
    report_end(folder, crew, tell.ledger.get(), kExitRequeue,
               crew.time_was_short() ? kTimeShort : "", -1);
    return kExitRequeue;
  }
  tell.spent(decomposed->any_missing ? "decomposing" : "loading");
  if (decomposed->any_missing) load_from += wall_clock_s() - opened;
  tell.doing("loading the factors");
  load_factors(config, crew, std::move(*decomposed), base);
  const double load_s = wall_clock_s() - load_from;
  if (!crew.leads()) items = read_items(config);
  const TrainingPlan plan = make_plan(config, base, std::move(items));
  for (const Task& task : plan.tasks)
    crew.agree("training items in '" + task.spec.train + "'", task.content_hash);
  crew.agree("settings", plan.bits);
  crew.agree("validation data", plan.validated_on);

  const bool child = fork || (found && lineage(found->parent));
  RunState fresh = first_state(config, base, plan, hardware, child);
  if (!found && crew.leads()) folder.keep_configuration(fresh.config);
  std::vector<std::string> different;  // from the hardware and build of the run so far
  json start_event = json::object();
  if (fork) {
    fresh = child_state(*fork, std::move(fresh), config.train);
    different = differences(hardware, fork->parent.identity, "now", "in the parent");
    if (crew.leads()) start_event = record_parent(*fork, fresh, folder);
  }
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
  const bool found_it = found.has_value();
  RunState start = found ? std::move(*found) : std::move(fresh);
  const int64_t start_step = start.step;
  const std::string former = folder.expert_path("best-step-" + std::to_string(start.best_step));
  const std::string forgotten = forget_other_best(plan.validated_on, config, start);
  const bool was_finished = is_finished(start, config) && file_exists(folder.expert_path("final"));
  if (!was_finished && crew.leads()) {
    remove_exit_report(folder.path());
    // Of a run that was finished and has more steps now: until this end it is not finished.
    remove_file(folder.expert_path("final"));
    tell.ledger->go_ahead();
    start_pulse(config, folder, crew, tell);
    tell.ledger->resumed(start.step);
    spdlog::info("{}", preflight.line());
    spdlog::info("{} {}{}, {} rank{}, {} worker{} here",
                 found_it ? "resuming after step" : "starting at step", start.step,
                 fork ? " of " + fork->run_dir : "", crew.ranks(), crew.ranks() == 1 ? "" : "s",
                 crew.workers(), crew.workers() == 1 ? "" : "s");
    for (const std::string& text : prompts_in_two_splits(config, "", &plan.tasks))
      spdlog::warn("{}", text);
    start_event.update({{"step", start.step},
                        {"ranks", crew.ranks()},
                        {"workers", crew.workers()},
                        {"preflight", preflight.to_json()},
                        {"identity", json::parse(hardware)},
                        {"different_hardware", different},
                        {"parameters", start.p.size()},
                        {"state_hash", state_hash(start)}});
    log->event(found_it ? "resume" : fork ? "fork" : "start", start_event);
    if (!forgotten.empty()) {
      const bool kept = rename_file(folder.expert_path("best"), former);
      spdlog::warn("{}; {}, and the best is chosen anew from step {} on", forgotten,
                   kept ? "it is kept as " + former : "its expert is gone", start_step);
      log->event(
          "best_forgotten",
          {{"step", start_step}, {"why", forgotten}, {"kept", kept ? json(former) : json()}});
    }
  }
  Narrator::To to;
  if (crew.leads()) to = {log.get(), tell.ledger.get(), tell.pulse.get()};
  TrainingLoop loop({config, crew, base, folder, plan}, std::move(start), found_it, to, load_s);
  loop.mend_best();
  int code = kExitFinished;
  if (!was_finished) {
    code = loop.run();
    std::string reason;
    if (code != kExitFinished && crew.time_was_short()) reason = kTimeShort;
    if (code == kExitFinished) reason = how_it_finished(loop.state(), config);
    if (loop.asked_to_end()) reason = "stopped as 'svfleet stop' asked";
    report_end(folder, crew, tell.ledger.get(), code, reason, loop.saved_step(), &loop.state());
    // Not before the report: killed in between, the next start ends as well.
    if (crew.leads() && code == kExitFinished) withdraw_end_request(folder.path());
  } else if (!slurm_job().job.empty()) {  // its job script must not start it again
    report_end(folder, crew, tell.ledger.get(), code, how_it_finished(loop.state(), config),
               loop.state().step, &loop.state());
  }
  if (loop.asked_to_end() && crew.leads()) {
    if (line.json)
      std::printf("%s\n", json{{"steps", loop.state().step},
                               {"stopped_as_asked", true},
                               {"expert", folder.expert_path("last")},
                               {"hash", state_hash(loop.state())}}
                              .dump()
                              .c_str());
    else
      std::printf("stopped after step %lld as 'svfleet stop' asked: %s; start again to go on\n",
                  static_cast<long long>(loop.state().step), folder.expert_path("last").c_str());
    return code;
  }
  if (crew.leads() && code == kExitFinished)
    tell_finished(loop.state(), config, was_finished, line.json);
  return code;
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
