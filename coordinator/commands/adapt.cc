// svfleet adapt: two passes over the items of a split, beside the base.
#include <spdlog/spdlog.h>

#include <exception>
#include <optional>

#include "comm/error.h"
#include "coordinator/adaptation/mixture.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/commands/adaptation_report.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/evaluation_table.h"
#include "coordinator/commands/measuring.h"
#include "coordinator/commands/opening_set.h"
#include "coordinator/config/targets.h"
#include "coordinator/sharing/opened.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {

int adapt_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  const NamedExperts named = open_named(line, crew);
  const Config config = adapting(named.experts, given);
  const std::vector<Task> tasks = load_measured_tasks(config, crew);
  const Task shots = shots_of(line.adapt, config, crew);
  if (!line.out.empty()) crew.on_leader("look at --out", [&] { check_new_file(line.out); });
  Base base = open_base(config, crew);
  crew.on_leader("compare with the run", [&] { check_trained_with(config, base.hashes); });
  if (!open_factors(config, crew, base, named.experts, named.paths)) return kExitRequeue;
  const OpenedSet opened = on_model(base, named);
  const auto pass = first_pass(base, crew, config, line.adapt, opened, texts_of(tasks), shots);
  if (!pass) return kExitRequeue;
  const auto second =
      measure(base, crew, tasks, {Asked{"adapt " + line.adapt.strategy, {}, 0, &*pass}}, config);
  if (!second) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;
  Measurement measured = second->measured;
  note_test_readings(named.first(named.measurable), named.paths, config, tasks, measured);
  nlohmann::json found = adaptation_json(config, line.adapt, opened, *pass, tasks, *second);
  std::exception_ptr unsaved;  // what was found is told all the same
  if (!line.out.empty()) {
    try {
      save_new_expert(line.out,
                      mixture_expert(base, opened, *pass, shots, uint64_t(config.evaluate.seed)));
      found["out"] = line.out;
    } catch (...) {
      unsaved = std::current_exception();
    }
  }
  tell_evaluation(measured, line.json, found);
  if (unsaved) std::rethrow_exception(unsaved);
  return kExitFinished;
}

}  // namespace svfleet
