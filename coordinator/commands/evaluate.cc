// svfleet evaluate: base and experts on the same items, with intervals and a paired test.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoints/out_file.h"
#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/base/splits.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/controls.h"
#include "coordinator/commands/evaluation_rows.h"
#include "coordinator/commands/evaluation_table.h"
#include "coordinator/commands/experts.h"
#include "coordinator/commands/out_path.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/json_line.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {
namespace {

using nlohmann::json;

// What --json does not show in its table.
void warn_of_controls(const json& found) {
  for (const json& result : found["results"])
    if (const json names = result.value("reached_by", json::array()); !names.empty())
      spdlog::warn("{}", reached_text(names, result["name"]));
}

std::vector<Task> load_tasks(const Config& config, Crew& crew) {
  std::vector<Task> tasks;
  std::string data;
  for (const TaskSpec& spec : config.tasks) {
    tasks.push_back(load_task(spec, config.evaluate.split, config.evaluate.items));
    data += tasks.back().content_hash;
  }
  crew.agree("evaluation data", data);
  crew.on_leader("check the items", [&] { check_items(config, {{config.evaluate.split, tasks}}); });
  return tasks;
}

// What is measured beside the base.
struct Measured {
  std::string name;
  std::vector<float> z;
  size_t of;  // as in EvaluationRow
};

std::vector<Measured> measured(const std::vector<Expert>& experts, const CommandLine& line,
                               const Base& base) {
  std::vector<Measured> all;
  for (size_t i = 0; i < experts.size(); ++i) {
    const std::vector<float> z = flat_z(base, experts[i], line.experts[i]);
    all.push_back({line.experts[i], z, 0});
    if (!line.controls) continue;
    const size_t row = all.size();  // behind the base's
    all.push_back({line.experts[i] + " shuffled", shuffled(base.basis->targets(), z), row});
    all.push_back({line.experts[i] + " mirrored", mirrored(z), row});
  }
  return all;
}

// Collective: the base's row, then one for each of `all`. Nothing when a stop was asked for.
std::optional<std::vector<EvaluationRow>> measure(const Base& base, Crew& crew,
                                                  const std::vector<Task>& tasks,
                                                  const std::vector<Measured>& all,
                                                  const Config& config) {
  const EvaluationOptions options = evaluation_options(config);
  WeightWatch watch(frozen(base), crew, 0);
  const auto of_base = evaluate_policy(base, crew, base_policy(base), tasks, options, "base");
  if (!of_base) return std::nullopt;
  std::vector<EvaluationRow> rows = {{*of_base, {}, {}, 0}};
  for (const auto& [name, z, of] : all) {
    const Policy policy = enforce(base, crew, z, form_named(config.train.form));
    const auto found = evaluate_policy(base, crew, policy, tasks, options, name);
    if (!found) return std::nullopt;
    if (crew.leads()) rows.push_back(row_beside(rows[0], *found, of));
  }
  if (const std::string change = watch.look_at_all(1); !change.empty())
    throw Error(kExitRequeue,
                change + " changed in memory during the evaluation: bad memory; start again",
                watch.changed_here());
  return rows;
}

void tell(const std::vector<EvaluationRow>& rows, const Config& config, bool as_json) {
  const json found = {{"split", config.evaluate.split},
                      {"n", rows[0].evaluation.all.counted},
                      {"temperature", config.evaluate.temperature},
                      {"results", results_json(rows)}};
  if (as_json) {
    std::printf("%s\n", json_line(found).c_str());
    warn_of_controls(found);
  } else {
    std::fputs(evaluation_table(found).c_str(), stdout);
  }
  std::fflush(stdout);  // what was measured is told even where the file fails now
}

}  // namespace

int evaluate_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  const std::vector<Expert> experts = open_experts(line.experts, crew);
  const Config config = adapting(experts, given);
  const std::vector<Task> tasks = load_tasks(config, crew);
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
  if (!experts.empty() && !open_factors(config, crew, base, experts, line.experts))
    return kExitRequeue;
  const auto rows = measure(base, crew, tasks, measured(experts, line, base), config);
  if (!rows) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;
  tell(*rows, config, line.json);
  if (out) out->write(item_lines(tasks, *rows));
  return kExitFinished;
}

}  // namespace svfleet
