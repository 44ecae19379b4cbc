#include "coordinator/training/opening.h"

#include <algorithm>

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
void remember_times(const RunLog* log, int64_t experts, Crew& crew) {
  std::string told;
  if (log)  // of all experts, whose chunks are one piece of work
    told =
        std::to_string(std::max(double(experts) * log->longest().chunk_s, log->longest().held_s)) +
        " " + std::to_string(log->longest().save_s);
  crew.group().broadcast(told, 0, "times of chunks so far");
  crew.note_piece("chunks", std::stod(told));
  crew.note_save(std::stod(told.substr(told.find(' '))));
}

// Collective. Whether the run is finished, stays so with this configuration, and has its files.
bool nothing_left(RunState found, const std::vector<RunItems>& items, const RunFolder& folder,
                  const Config& config, Crew& crew) {
  std::string told;
  if (crew.leads()) {
    const std::vector<Config> runs = runs_of_one(config);
    const std::vector<RunState*> states = states_of(found);
    const std::vector<std::string> names = names_of(found);
    bool all_there = true;
    for (size_t e = 0; e < states.size(); ++e) {
      forget_other_best(validated_on(items[e].validation), runs[e], *states[e]);
      all_there = all_there &&
                  (states[e]->best_step < 0 || file_exists(folder.expert_path("best", names[e])));
    }
    if (all_there && is_finished(found, config) && folder.is_closed()) told = "finished";
  }
  crew.group().broadcast(told, 0, "look for an end");
  return !told.empty();
}

// Before a matrix is decomposed: whether this is the model that the run, its parent or the expert
// that it starts from belongs to.
void check_model(const Opened& opened, const Config& config, const std::string& model_hash,
                 bool leads) {
  if (opened.fork) check_same_model(*opened.fork, config.model.path, model_hash);
  const std::vector<Config> runs = runs_of_one(config);
  const std::vector<std::string> names = expert_names(config);
  for (size_t e = 0; e < runs.size() && !opened.fork; ++e)
    check_of_expert(names[e], [&] {
      const std::string& from = runs[e].train.init_from;
      if (opened.found)
        check_same_base(*states_of(*opened.found)[e], runs[e], opened.base, opened.items[e].train,
                        model_hash);
      else if (!from.empty())
        check_trained_on(runs[e], opened.base, model_hash, load_expert(from), from, leads);
    });
}

std::vector<RunItems> items_of(const Config& config) {
  std::vector<RunItems> items;
  for (const Config& own : runs_of_one(config)) items.push_back(read_items(own));
  return items;
}

}  // namespace

Opened look_at(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew) {
  Opened opened;
  folder.check_seen(crew.group());
  crew.on_leader("read the items", [&] {
    opened.items = items_of(config);
    const std::vector<Config> runs = runs_of_one(config);
    for (size_t e = 0; e < runs.size(); ++e)
      check_items(runs[e],
                  {{"train", opened.items[e].train}, {"validation", opened.items[e].validation}});
  });
  if (!crew.leads()) opened.items = items_of(config);
  // What an earlier attempt said is over: without a report, this one was killed. A finished run
  // keeps its own.
  if (crew.leads() && !folder.is_closed()) remove_exit_report(folder.path());
  check_program(folder.path(), crew, line.allow_different_hardware);
  opened.hardware = identity({torch_identity(), config.threads, crew.device().kind,
                              crew.device().on_gpu() ? "" : product_identity()});
  crew.agree("hardware and build", opened.hardware);
  opened.found = folder.newest(crew.group());
  if (opened.found) check_same_experts(*opened.found, config);
  opened.fork = open_fork(line, folder, opened.found, crew);
  const int64_t from_step = opened.found  ? opened.found->step
                            : opened.fork ? opened.fork->parent.step
                                          : 0;
  if (crew.leads()) opened.log = std::make_unique<RunLog>(folder.path());
  remember_times(opened.log.get(), int64_t(opened.items.size()), crew);
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
