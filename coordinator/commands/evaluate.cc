// svfleet evaluate: base and experts on the same items, with intervals and paired tests.
#include <spdlog/spdlog.h>

#include <optional>

#include "checkpoints/out_file.h"
#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/base/splits.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/controls.h"
#include "coordinator/commands/evaluation_file.h"
#include "coordinator/commands/evaluation_table.h"
#include "coordinator/commands/experts.h"
#include "coordinator/commands/out_path.h"
#include "coordinator/commands/readings.h"
#include "coordinator/config/targets.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {
namespace {

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
struct Asked {
  std::string name;
  std::vector<float> z;
  size_t of;  // as in MeasuredPolicy
};

std::vector<Asked> asked_of(const std::vector<Expert>& experts, const CommandLine& line,
                            const Base& base) {
  std::vector<Asked> all;
  for (size_t i = 0; i < experts.size(); ++i) {
    const std::vector<float> z = flat_z(base, experts[i], line.experts[i]);
    all.push_back({line.experts[i], z, 0});
    if (!line.controls) continue;
    if (base.basis->core().kind() != CoreKind::kDiagonal)
      throw user_error("--controls shuffles and mirrors z, and '", line.experts[i],
                       "' is of another core than diagonal; leave it out");
    const size_t place = all.size();  // behind the base
    all.push_back({line.experts[i] + " shuffled", shuffled(base.basis->targets(), z), place});
    all.push_back({line.experts[i] + " mirrored", mirrored(z), place});
  }
  return all;
}

// Collective: the base, then each of `all`; rank 0 gets it. Nothing when a stop was asked for.
std::optional<Measurement> measure(const Base& base, Crew& crew, const std::vector<Task>& tasks,
                                   const std::vector<Asked>& all, const Config& config) {
  const EvaluationOptions options = evaluation_options(config);
  Measurement measured{config.evaluate.split,
                       config.evaluate.temperature,
                       options.samples,
                       measured_items(tasks),
                       {},
                       {}};
  WeightWatch watch(frozen(base), crew, 0);
  auto of_base = evaluate_policy(base, crew, base_policy(base), tasks, options, "base");
  if (!of_base) return std::nullopt;
  measured.policies.push_back({"base", 0, std::move(of_base->replies)});
  for (const auto& [name, z, of] : all) {
    const Policy policy = enforce(base, crew, z, form_named(config.train.form));
    auto found = evaluate_policy(base, crew, policy, tasks, options, name);
    if (!found) return std::nullopt;
    measured.policies.push_back({name, of, std::move(found->replies)});
  }
  if (const std::string change = watch.look_at_all(1); !change.empty())
    throw Error(kExitRequeue,
                change + " changed in memory during the evaluation: bad memory; start again",
                watch.changed_here());
  return measured;
}

// On rank 0, before anybody sees a figure.
void note(const std::vector<Expert>& experts, const CommandLine& line, const Config& config,
          const std::vector<Task>& tasks, Measurement& measured) {
  if (measured.split != "test") return;
  std::vector<std::string> data;
  for (const Task& task : tasks) data.push_back(task.content_hash);
  std::vector<TestReading> readings;
  for (size_t i = 0; i < experts.size(); ++i)
    if (const std::string run = run_read_by(line.experts[i], config.run_dir); !run.empty())
      readings.push_back({run, measured.split, data, z_hash(experts[i]),
                          int64_t(measured.items.size()), measured.samples});
  for (const EarlierReadings& earlier : note_readings(readings))
    if (earlier.times > 0) measured.readings.push_back(earlier);
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
  auto measured = measure(base, crew, tasks, asked_of(experts, line, base), config);
  if (!measured) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;
  note(experts, line, config, tasks, *measured);
  tell_evaluation(*measured, line.json);
  if (out) out->write(item_lines(*measured));
  return kExitFinished;
}

}  // namespace svfleet
