// svfleet evaluate: base and experts on the same items, with intervals and paired tests.
#include <spdlog/spdlog.h>

#include <optional>

#include "checkpoints/out_file.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/base/splits.h"
#include "coordinator/commands/adaptation_report.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/controls.h"
#include "coordinator/commands/evaluation_file.h"
#include "coordinator/commands/evaluation_table.h"
#include "coordinator/commands/measuring.h"
#include "coordinator/commands/opening_set.h"
#include "coordinator/commands/out_path.h"
#include "coordinator/config/targets.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {
namespace {

std::vector<Asked> asked_of(const NamedExperts& named, bool controls, const Base& base) {
  std::vector<Asked> all;
  for (size_t i = 0; i < named.measurable; ++i) {
    const std::string& path = named.paths[i];
    const std::vector<float> z = flat_z(base, named.experts[i], path);
    all.push_back({path, z});
    if (!controls) continue;
    if (base.basis->core().kind() != CoreKind::kDiagonal)
      throw user_error("--controls shuffles and mirrors z, and '", path,
                       "' is of another core than diagonal; leave it out");
    const size_t place = all.size();  // behind the base
    all.push_back({path + " shuffled", shuffled(base.basis->targets(), z), place});
    all.push_back({path + " mirrored", mirrored(z), place});
  }
  return all;
}

}  // namespace

int evaluate_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  const NamedExperts named = open_named(line, crew);
  const Config config = adapting(named.experts, given);
  const std::vector<Task> tasks = load_measured_tasks(config, crew);
  const Task shots = shots_of(line.adapt, config, crew);
  std::optional<OutFile> out;
  if (crew.leads() && !line.out.empty()) {
    check_out(line, config);
    out.emplace(line.out);  // fail now, not at the end
  }
  if (crew.leads())
    for (const std::string& text : prompts_in_two_splits(config, config.evaluate.split))
      spdlog::warn("{}", text);
  Base base = open_base(config, crew);
  crew.on_leader("compare with the run", [&] {
    if (const auto run = check_trained_with(config, base.hashes))
      for (const std::string& text : changed_items(*run)) spdlog::warn("{}", text);
  });
  if (!named.experts.empty() && !open_factors(config, crew, base, named.experts, named.paths))
    return kExitRequeue;
  const OpenedSet opened = on_model(base, named);
  std::vector<Asked> asked = asked_of(named, line.controls, base);
  std::optional<FirstPass> pass;
  if (!line.adapt.strategy.empty()) {
    pass = first_pass(base, crew, config, line.adapt, opened, texts_of(tasks), shots);
    if (!pass) return kExitRequeue;
    asked.push_back(Asked{"adapt " + line.adapt.strategy, {}, 0, &*pass});
  }
  auto result = measure(base, crew, tasks, asked, config);
  if (!result) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;
  note_test_readings(named.first(named.measurable), named.paths, config, tasks, result->measured);
  nlohmann::json adaptation;
  if (pass) adaptation = adaptation_json(config, line.adapt, opened, *pass, tasks, *result);
  tell_evaluation(result->measured, line.json, adaptation);
  if (out) out->write(item_lines(result->measured));
  return kExitFinished;
}

}  // namespace svfleet
