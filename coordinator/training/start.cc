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

// The first state of a run that nothing was saved of yet, or of its experts.
RunState fresh_state(const Opened& opened, const std::vector<ExpertPlan>& experts,
                     const Config& config) {
  const auto& found = opened.found;
  if (!config.experts.empty()) return first_states(config, opened.base, experts, opened.hardware);
  const bool child = opened.fork || (found && lineage(found->parent));
  return first_state(config, opened.base, experts.front().plan, opened.hardware, child);
}

// What was saved goes on as this start's: on this hardware, of this configuration.
void go_on(RunState& found, const RunState& fresh, const std::vector<ExpertPlan>& experts,
           bool allow_different_hardware) {
  const std::vector<RunState*> states = states_of(found);
  const std::vector<const RunState*> now = states_of(fresh);
  for (size_t e = 0; e < states.size(); ++e) {
    RunState& own = *states[e];
    check_of_expert(experts[e].name,
                    [&] { check_resumable(own, *now[e], allow_different_hardware); });
    SVFLEET_CHECK(own.position == own.step * experts[e].config.train.prompts_per_step, own.position,
                  " prompts consumed after step ", own.step);
  }
}

}  // namespace

Start state_to_start_from(Opened& opened, const std::vector<ExpertPlan>& experts,
                          const RunFolder& folder, const CommandLine& line, const Config& config,
                          bool leads) {
  std::optional<RunState>& found = opened.found;
  const std::optional<Fork>& fork = opened.fork;
  Start start;
  start.resumed = found.has_value();
  RunState fresh = fresh_state(opened, experts, config);
  if (!found && leads) folder.keep_configuration(fresh.config);
  if (fork) {
    fresh = child_state(*fork, std::move(fresh), config.train);
    start.different = differences(opened.hardware, fork->parent.identity, "now", "in the parent");
    if (leads) start.event = record_parent(*fork, fresh, folder);
  }
  if (found) {
    go_on(*found, fresh, experts, line.allow_different_hardware);
    for (const std::string& other :
         differences(opened.hardware, found->identity, "now", "before")) {
      start.different.push_back(other);
      if (leads) spdlog::warn("other bits than on one kind of machine are possible: {}", other);
    }
    std::vector<RunState*> all = states_of(*found);
    all.push_back(&*found);
    for (RunState* state : all) {
      state->identity = opened.hardware;
      state->config_shape = fresh.config_shape;  // of an earlier version's run: from here on
    }
  }
  start.state = found ? std::move(*found) : std::move(fresh);
  const std::vector<RunState*> states = states_of(start.state);
  for (size_t e = 0; e < states.size(); ++e) {
    const int64_t step = states[e]->best_step;
    std::string why =
        forget_other_best(experts[e].plan.validated_on, experts[e].config, *states[e]);
    if (!why.empty()) start.forgotten.push_back({experts[e].name, std::move(why), step});
  }
  return start;
}

void tell_start(const Opened& opened, const std::vector<ExpertPlan>& experts, Start& start,
                const RunFolder& folder, const Config& config, Crew& crew, Telling& tell) {
  remove_exit_report(folder.path());
  // Of a run that was finished and has more steps now: until this end it is not finished.
  for (const ExpertPlan& expert : experts) remove_file(folder.expert_path("final", expert.name));
  go_ahead(config, folder, crew, tell);
  const int64_t step = start.state.step;
  tell.ledger->resumed(step);
  spdlog::info("{}", opened.preflight.line());
  spdlog::info("{} {}{}, {} rank{}, {} worker{} here",
               start.resumed ? "resuming after step" : "starting at step", step,
               opened.fork ? " of " + opened.fork->run_dir : "", crew.ranks(),
               crew.ranks() == 1 ? "" : "s", crew.workers(), crew.workers() == 1 ? "" : "s");
  const size_t parameters = states_of(start.state).front()->p.size();
  if (const size_t n = parameters; config.train.evolves() && n > kMostEvolved)
    spdlog::warn(
        "train.method es estimates a gradient of {} numbers from {} members: the estimate's "
        "cosine with the gradient is at best about {:.2f}; above about {} numbers take fewer "
        "svd.layers or svd.targets, or train.method policy_gradient",
        n, config.train.population,
        std::sqrt(double(config.train.population) /
                  double(config.train.population + 2 * int64_t(n))),
        kMostEvolved);
  for (const ExpertPlan& expert : experts)
    for (const std::string& text : prompts_in_two_splits(expert.config, "", &expert.plan.tasks))
      spdlog::warn("{}{}", expert.name.empty() ? "" : expert.name + ": ", text);
  start.event.update({{"step", step},
                      {"ranks", crew.ranks()},
                      {"workers", crew.workers()},
                      {"preflight", opened.preflight.to_json()},
                      {"identity", json::parse(opened.hardware)},
                      {"different_hardware", start.different},
                      {"parameters", parameters},
                      {"state_hash", state_hash(start.state)}});
  if (!config.experts.empty()) start.event["experts"] = expert_names(config);
  opened.log->event(start.resumed ? "resume" : opened.fork ? "fork" : "start", start.event);
  for (const FormerBest& former : start.forgotten) {
    const std::string place =
        folder.expert_path("best-step-" + std::to_string(former.step), former.expert);
    const bool kept = rename_file(folder.expert_path("best", former.expert), place);
    spdlog::warn("{}{}; {}, and the best is chosen anew from step {} on",
                 former.expert.empty() ? "" : former.expert + ": ", former.why,
                 kept ? "it is kept as " + place : "its expert is gone", step);
    json event = {{"step", step}, {"why", former.why}, {"kept", kept ? json(place) : json()}};
    if (!former.expert.empty()) event["expert"] = former.expert;
    opened.log->event("best_forgotten", event);
  }
}

}  // namespace svfleet
