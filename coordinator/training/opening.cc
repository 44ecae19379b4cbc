#include "coordinator/training/opening.h"

#include "checkpoints/file.h"
#include "cluster/exit_report.h"
#include "comm/clock.h"
#include "coordinator/base/factors.h"
#include "coordinator/crew/run_program.h"
#include "coordinator/run/identity.h"
#include "coordinator/training/best.h"
#include "worker/kernels/product.h"
#include "worker/libtorch.h"

namespace svfleet {
namespace {

// Collective: how long a chunk and a save take is known from earlier parts of the run.
void remember_times(const RunLog* log, Crew& crew) {
  std::string told;
  if (log)
    told = std::to_string(log->longest().chunk_s) + " " + std::to_string(log->longest().save_s);
  crew.group().broadcast(told, 0, "times of chunks so far");
  crew.note_piece("chunks", std::stod(told));
  crew.note_save(std::stod(told.substr(told.find(' '))));
}

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

}  // namespace

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
  opened.hardware = identity({torch_identity(), config.threads, crew.device().kind,
                              crew.device().on_gpu() ? "" : product_identity()});
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

Loaded load(Opened& opened, const RunFolder& folder, const Config& config, Crew& crew,
            Telling& tell) {
  Base& base = opened.base;
  const bool is_done =
      opened.found && nothing_left(*opened.found, opened.items, folder, config, crew);
  Stopwatch watch;
  base = open_base(config, crew);
  opened.load_s = watch.lap();
  tell.spent("loading");
  tell.doing("decomposing");
  bool is_over = false;
  auto decomposed =
      decompose_missing(config, crew, base.weights->architecture(), base.weights->files(),
                        /*keep=*/true, [&](const std::string& model_hash) {
                          check_model(opened, config, model_hash, crew.leads());
                          is_over = is_done;
                          return !is_over;
                        });
  if (!decomposed) return is_over ? Loaded::kNothingLeft : Loaded::kStopped;
  const double looked_s = watch.lap();
  tell.spent(decomposed->any_missing ? "decomposing" : "loading");
  if (!decomposed->any_missing) opened.load_s += looked_s;
  tell.doing("loading the factors");
  load_factors(config, crew, std::move(*decomposed), base);
  opened.load_s += watch.lap();
  return Loaded::kAll;
}

}  // namespace svfleet
