#include "coordinator/commands/measuring.h"

#include <set>

#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/commands/readings.h"
#include "coordinator/training/evaluation.h"

namespace svfleet {

std::vector<Task> load_measured_tasks(const Config& config, Crew& crew) {
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

std::optional<Measuring> measure(const Base& base, Crew& crew, const std::vector<Task>& tasks,
                                 const std::vector<Asked>& all, const Config& config) {
  const EvaluationOptions options = evaluation_options(config);
  Measuring result{{config.evaluate.split,
                    config.evaluate.temperature,
                    options.samples,
                    measured_items(tasks),
                    {},
                    {}},
                   {}};
  std::set<std::string> names{"base"};
  for (const Asked& asked : all)
    if (!names.insert(asked.name).second)
      throw user_error("two policies would both be called '", asked.name,
                       "' in what is measured; give the expert's file another name");
  WeightWatch watch(frozen(base), crew, 0);
  Stopwatch clock;
  const auto look_at = [&](const Policy& policy, const std::string& name, size_t of,
                           const EvaluationOptions& how) {
    auto found = evaluate_policy(base, crew, policy, tasks, how, name);
    if (!found) return false;
    result.measured.policies.push_back({name, of, std::move(found->replies)});
    result.seconds.push_back(clock.lap());
    return true;
  };
  if (!look_at(base_policy(base), "base", 0, options)) return std::nullopt;
  for (const auto& [name, z, of, adapted] : all) {
    EvaluationOptions how = options;
    if (adapted) how.entries = adapted->entries;
    const Policy own = adapted ? Policy() : enforce(base, crew, z, form_named(config.train.form));
    if (!look_at(adapted ? adapted->policy : own, name, of, how)) return std::nullopt;
  }
  if (const std::string change = watch.look_at_all(1); !change.empty())
    throw Error(kExitRequeue,
                change + " changed in memory during the evaluation: bad memory; start again",
                watch.changed_here());
  return result;
}

void note_test_readings(const std::vector<Expert>& experts, const std::vector<std::string>& paths,
                        const Config& config, const std::vector<Task>& tasks,
                        Measurement& measured) {
  if (measured.split != "test") return;
  std::vector<std::string> data;
  for (const Task& task : tasks) data.push_back(task.content_hash);
  std::vector<TestReading> readings;
  for (size_t i = 0; i < experts.size(); ++i)
    if (const std::string run = run_read_by(paths[i], config.run_dir); !run.empty())
      readings.push_back({run, measured.split, data, z_hash(experts[i]),
                          int64_t(measured.items.size()), measured.samples});
  for (const EarlierReadings& earlier : note_readings(readings))
    if (earlier.times > 0) measured.readings.push_back(earlier);
}

}  // namespace svfleet
