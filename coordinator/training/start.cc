#include "coordinator/training/start.h"

#include <spdlog/spdlog.h>

#include <cmath>

#include "checkpoints/file.h"
#include "cluster/exit_report.h"
#include "comm/error.h"
#include "coordinator/base/splits.h"
#include "coordinator/run/identity.h"
#include "coordinator/training/best.h"

namespace svfleet {

using nlohmann::json;

namespace {

// Parameters for which a population that one can afford still tells a direction.
constexpr size_t kMostEvolved = 1500;

}  // namespace

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
    found->config_shape = fresh.config_shape;  // of an earlier version's run: from here on
  }
  start.state = found ? std::move(*found) : std::move(fresh);
  start.former_best = folder.expert_path("best-step-" + std::to_string(start.state.best_step));
  start.forgotten = forget_other_best(plan.validated_on, config, start.state);
  return start;
}

void tell_start(const Opened& opened, const TrainingPlan& plan, Start& start,
                const RunFolder& folder, const Config& config, Crew& crew, Telling& tell) {
  remove_exit_report(folder.path());
  // Of a run that was finished and has more steps now: until this end it is not finished.
  remove_file(folder.expert_path("final"));
  go_ahead(config, folder, crew, tell);
  const int64_t step = start.state.step;
  tell.ledger->resumed(step);
  spdlog::info("{}", opened.preflight.line());
  spdlog::info("{} {}{}, {} rank{}, {} worker{} here",
               start.resumed ? "resuming after step" : "starting at step", step,
               opened.fork ? " of " + opened.fork->run_dir : "", crew.ranks(),
               crew.ranks() == 1 ? "" : "s", crew.workers(), crew.workers() == 1 ? "" : "s");
  if (const size_t n = start.state.p.size(); config.train.evolves() && n > kMostEvolved)
    spdlog::warn(
        "train.method es estimates a gradient of {} numbers from {} members: the estimate's "
        "cosine with the gradient is at best about {:.2f}; above about {} numbers take fewer "
        "svd.layers or svd.targets, or train.method policy_gradient",
        n, config.train.population,
        std::sqrt(double(config.train.population) /
                  double(config.train.population + 2 * int64_t(n))),
        kMostEvolved);
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
  const bool kept = rename_file(folder.expert_path("best"), start.former_best);
  spdlog::warn("{}; {}, and the best is chosen anew from step {} on", start.forgotten,
               kept ? "it is kept as " + start.former_best : "its expert is gone", step);
  opened.log->event("best_forgotten", {{"step", step},
                                       {"why", start.forgotten},
                                       {"kept", kept ? json(start.former_best) : json()}});
}

}  // namespace svfleet
