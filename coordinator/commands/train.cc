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

// What a start needs, read and checked; the same on every rank but for the log.
struct Opened {
  std::string hardware;  // identity() of this start
  std::optional<RunState> found;
  std::optional<Fork> fork;
  RunItems items;
  std::unique_ptr<RunLog> log;  // rank 0
  Preflight preflight;
  Base base;
  double load_s = 0;  // spent on model and factors
};

// Collective. Whether the run is finished, stays so with this configuration, and has its files.
bool nothing_left(RunState found, const RunItems& items, const RunFolder& folder,
                  const Config& config, Crew& crew) {
  std::string told;
  if (crew.leads()) {
    forget_other_best(validated_on(items.validation), config, found);
    if (is_finished(found, config) && file_exists(folder.expert_path("final")) &&
        (found.best_step < 0 || file_exists(folder.expert_path("best"))))
      told = "finished";
  }
  crew.group().broadcast(told, 0, "look for an end");
  return !told.empty();
}

// Collective. All that is cheap: what has been read of the model and its factors later must fit it.
Opened look_at(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew) {
  Opened opened;
  folder.check_seen(crew.group());
  crew.on_leader("read the items", [&] {
    opened.items = read_items(config);
    check_items(config, {{"train", opened.items.train}, {"validation", opened.items.validation}});
  });
  if (!crew.leads()) opened.items = read_items(config);
  // What an earlier attempt said is over: without a report, this one was killed. A finished run
  // keeps its own.
  if (crew.leads() && !file_exists(folder.expert_path("final"))) remove_exit_report(folder.path());
  check_program(folder.path(), crew, line.allow_different_hardware);
  opened.hardware = identity({torch_identity(), config.threads, crew.device().gpu});
  crew.agree("hardware and build", opened.hardware);
  opened.found = folder.newest(crew.group());
  opened.fork = open_fork(line, folder, opened.found, crew);
  const int64_t from_step = opened.found  ? opened.found->step
                            : opened.fork ? opened.fork->parent.step
                                          : 0;
  if (crew.leads()) opened.log = std::make_unique<RunLog>(folder.path());
  remember_times(opened.log.get(), crew);
  opened.preflight = preflight_run(config, from_step, !opened.found, crew);
  return opened;
}

// Before a matrix is decomposed: whether this is the model that the run, its parent or the expert
// that it starts from belongs to.
void check_model(const Opened& opened, const Config& config, const std::string& model_hash,
                 bool leads) {
  const std::string& from = config.train.init_from;
  if (opened.fork)
    check_same_model(*opened.fork, config.model.path, model_hash);
  else if (opened.found)
    check_same_base(*opened.found, config, opened.base, opened.items.train, model_hash);
  else if (!from.empty())
    check_trained_on(config, opened.base, model_hash, load_expert(from), from, leads);
}

// Collective. The model with its factors. False when nothing is left to do, or when a stop was
// asked for meanwhile (`stopped`).
bool load(Opened& opened, const RunFolder& folder, const Config& config, Crew& crew, Telling& tell,
          bool* stopped) {
  Base& base = opened.base;
  const bool is_done =
      opened.found && nothing_left(*opened.found, opened.items, folder, config, crew);
  Stopwatch watch;
  base = open_base(config, crew);
  opened.load_s = watch.lap();
  tell.spent("loading");
  tell.doing("decomposing");
  bool is_over = false;
  auto decomposed = decompose_missing(config, crew, base.model->architecture(), base.model->files(),
                                      /*keep=*/true, [&](const std::string& model_hash) {
                                        check_model(opened, config, model_hash, crew.leads());
                                        is_over = is_done;
                                        return !is_over;
                                      });
  *stopped = !decomposed && !is_over;
  if (!decomposed) return false;
  const double looked_s = watch.lap();
  tell.spent(decomposed->any_missing ? "decomposing" : "loading");
  if (!decomposed->any_missing) opened.load_s += looked_s;
  tell.doing("loading the factors");
  load_factors(config, crew, std::move(*decomposed), base);
  opened.load_s += watch.lap();
  return true;
}

// Where training begins or goes on.
struct Start {
  RunState state;
  bool resumed = false;
  std::vector<std::string> different;  // from the hardware and build of the run so far
  std::string forgotten;               // why the best so far no longer counts
  json event = json::object();         // for the log
};

Start state_to_start_from(Opened& opened, const TrainingPlan& plan, const RunFolder& folder,
                          const CommandLine& line, const Config& config, bool leads) {
  std::optional<RunState>& found = opened.found;
  const std::optional<Fork>& fork = opened.fork;
  Start start;
  start.resumed = found.has_value();
  const bool child = fork || (found && lineage(found->parent));
  RunState fresh = first_state(config, opened.base, plan, opened.hardware, child);
  if (!found && leads) folder.keep_configuration(fresh.config);
  if (fork) {
    fresh = child_state(*fork, std::move(fresh), config.train);
    start.different = differences(opened.hardware, fork->parent.identity, "now", "in the parent");
    if (leads) start.event = record_parent(*fork, fresh, folder);
  }
  if (found) {
    check_resumable(*found, fresh, line.allow_different_hardware);
    SVFLEET_CHECK(found->position == found->step * config.train.prompts_per_step, found->position,
                  " prompts consumed after step ", found->step);
    for (const std::string& other :
         differences(opened.hardware, found->identity, "now", "before")) {
      start.different.push_back(other);
      if (leads) spdlog::warn("other bits than on one kind of machine are possible: {}", other);
    }
    found->identity = opened.hardware;
  }
  start.state = found ? std::move(*found) : std::move(fresh);
  return start;
}

// Rank 0: this start goes on, or begins, from here.
void tell_start(const Opened& opened, const TrainingPlan& plan, Start& start,
                const std::string& former_best, const RunFolder& folder, const Config& config,
                Crew& crew, Telling& tell) {
  remove_exit_report(folder.path());
  // Of a run that was finished and has more steps now: until this end it is not finished.
  remove_file(folder.expert_path("final"));
  tell.ledger->go_ahead();
  start_pulse(config, folder, crew, tell);
  const int64_t step = start.state.step;
  tell.ledger->resumed(step);
  spdlog::info("{}", opened.preflight.line());
  spdlog::info("{} {}{}, {} rank{}, {} worker{} here",
               start.resumed ? "resuming after step" : "starting at step", step,
               opened.fork ? " of " + opened.fork->run_dir : "", crew.ranks(),
               crew.ranks() == 1 ? "" : "s", crew.workers(), crew.workers() == 1 ? "" : "s");
  for (const std::string& text : prompts_in_two_splits(config, "", &plan.tasks))
    spdlog::warn("{}", text);
  start.event.update({{"step", step},
                      {"ranks", crew.ranks()},
                      {"workers", crew.workers()},
                      {"preflight", opened.preflight.to_json()},
                      {"identity", json::parse(opened.hardware)},
                      {"different_hardware", start.different},
                      {"parameters", start.state.p.size()},
                      {"state_hash", state_hash(start.state)}});
  opened.log->event(start.resumed ? "resume" : opened.fork ? "fork" : "start", start.event);
  if (start.forgotten.empty()) return;
  const bool kept = rename_file(folder.expert_path("best"), former_best);
  spdlog::warn("{}; {}, and the best is chosen anew from step {} on", start.forgotten,
               kept ? "it is kept as " + former_best : "its expert is gone", step);
  opened.log->event(
      "best_forgotten",
      {{"step", step}, {"why", start.forgotten}, {"kept", kept ? json(former_best) : json()}});
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
  const int code = loop.run();
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
  bool stopped = false;
  if (!load(opened, folder, config, crew, tell, &stopped))
    return stopped ? stopped_before_training(folder, crew, tell)
                   : already_finished(*opened.found, folder, line, config, crew, tell);
  const TrainingPlan plan = make_plan(config, opened.base, std::move(opened.items));
  for (const Task& task : plan.tasks)
    crew.agree("training items in '" + task.spec.train + "'", task.content_hash);
  crew.agree("settings", plan.bits);
  crew.agree("validation data", plan.validated_on);

  Start start = state_to_start_from(opened, plan, folder, line, config, crew.leads());
  const std::string former_best =
      folder.expert_path("best-step-" + std::to_string(start.state.best_step));
  start.forgotten = forget_other_best(plan.validated_on, config, start.state);
  const bool was_finished =
      is_finished(start.state, config) && file_exists(folder.expert_path("final"));
  if (!was_finished && crew.leads())
    tell_start(opened, plan, start, former_best, folder, config, crew, tell);
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
