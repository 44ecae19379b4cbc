// svfleet evaluate: base and experts on the same items, with intervals and a paired test.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/base.h"
#include "coordinator/commands.h"
#include "coordinator/controls.h"
#include "coordinator/evaluation.h"
#include "coordinator/factors.h"
#include "coordinator/weight_watch.h"

namespace svfleet {
namespace {

using nlohmann::json;

struct Row {
  Evaluation evaluation;
  McNemar paired;  // against the base
};

json row_json(const Row& row, bool is_base) {
  const Evaluation& e = row.evaluation;
  const Interval interval = wilson(e.right, e.n);
  json out = {{"name", e.name},
              {"right", e.right},
              {"n", e.n},
              {"accuracy", e.accuracy()},
              {"low", interval.low},
              {"high", interval.high},
              {"ended", e.ended_share()},
              {"mean_tokens", e.mean_tokens}};
  if (!is_base) {
    out["p_value"] = row.paired.p;
    out["only_base"] = row.paired.only_first;
    out["only_expert"] = row.paired.only_second;
  }
  return out;
}

void print_row(const Row& row, bool is_base) {
  const Evaluation& e = row.evaluation;
  const Interval interval = wilson(e.right, e.n);
  std::printf("%-36s %6.3f  [%.3f, %.3f]  %5lld/%-5lld  %6.1f%%  %7.1f", e.name.c_str(),
              e.accuracy(), interval.low, interval.high, static_cast<long long>(e.right),
              static_cast<long long>(e.n), 100 * e.ended_share(), e.mean_tokens);
  if (is_base)
    std::printf("\n");
  else
    std::printf("  %s%.1e (%lld : %lld)%s\n", row.paired.p < 1e-12 ? "<" : "",
                std::max(row.paired.p, 1e-12), static_cast<long long>(row.paired.only_first),
                static_cast<long long>(row.paired.only_second),
                row.paired.p > 0.05 ? "  not distinguishable from base" : "");
}

void write_items(const std::string& path, const std::vector<Task>& tasks,
                 const std::vector<Row>& rows) {
  std::string lines;
  size_t i = 0;
  for (const Task& task : tasks)
    for (const Item& item : task.items) {
      json replies = json::object();
      for (const Row& row : rows) {
        const ItemResult& result = row.evaluation.items[i];
        replies[row.evaluation.name] = {{"right", result.right},
                                        {"ended", result.ended},
                                        {"tokens", result.tokens},
                                        {"reply", result.reply}};
      }
      lines += json{{"task", task.spec.name},
                    {"item", item.index},
                    {"prompt", item.messages.back().content},
                    {"gold", item.gold.answer},
                    {"replies", replies}}
                   .dump(-1, ' ', false, json::error_handler_t::replace) +
               "\n";
      ++i;
    }
  write_file_atomic(path, lines);
}

}  // namespace

int evaluate_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  std::vector<Task> tasks;
  std::string data;
  for (const TaskSpec& spec : config.tasks) {
    tasks.push_back(load_task(spec, config.evaluate.split, config.evaluate.items));
    data += tasks.back().content_hash;
  }
  crew.agree("evaluation data", data);
  crew.on_leader("check the items", [&] {
    check_items(config, {{config.evaluate.split, config.evaluate.items}});
  });
  std::vector<Expert> experts;
  for (const std::string& path : line.experts) experts.push_back(load_expert(path));
  std::string expert_hashes;
  for (const Expert& expert : experts) expert_hashes += z_hash(expert) + " ";
  crew.agree("experts", expert_hashes);
  if (crew.leads() && !line.out.empty())
    write_file_atomic(line.out, "");  // fail now, not at the end
  Base base = open_base(config, crew);

  EvaluationOptions options;
  options.batch = config.evaluate.batch;
  options.sampling = {config.evaluate.temperature,    config.evaluate.top_k,
                      config.evaluate.top_p,          config.evaluate.min_p,
                      uint64_t(config.evaluate.seed), 0};
  std::vector<std::pair<std::string, std::vector<float>>> policies;
  if (!experts.empty()) {
    if (!open_factors(config, crew, base)) return kExitRequeue;
    for (size_t i = 0; i < experts.size(); ++i) {
      std::vector<float> z = flat_z(base, experts[i], line.experts[i]);
      policies.emplace_back(line.experts[i], z);
      if (!line.controls) continue;
      policies.emplace_back(line.experts[i] + " shuffled", shuffled(base.model->targets(), z));
      policies.emplace_back(line.experts[i] + " mirrored", mirrored(z));
    }
  }
  std::vector<Row> rows;
  WeightWatch watch(*base.model, crew, 0);
  auto base_result = evaluate_policy(base, crew, base_policy(base), tasks, options, "base");
  if (!base_result) return kExitRequeue;
  rows.push_back({*base_result, {}});
  for (const auto& [name, z] : policies) {
    const Policy policy = enforce(base, crew, z, config.train.sampling_form == "merged");
    auto result = evaluate_policy(base, crew, policy, tasks, options, name);
    if (!result) return kExitRequeue;
    rows.push_back({*result, {}});
    if (crew.leads()) rows.back().paired = mcnemar(base_result->verdicts(), result->verdicts());
  }
  if (const std::string change = watch.look_at_all(1); !change.empty())
    throw Error(kExitRequeue,
                change + " changed in memory during the evaluation: bad memory; start again",
                watch.changed_here());
  if (!crew.leads()) return kExitFinished;

  if (line.json) {
    json results = json::array();
    for (size_t i = 0; i < rows.size(); ++i) results.push_back(row_json(rows[i], i == 0));
    std::printf("%s\n", json{{"split", config.evaluate.split},
                             {"n", rows[0].evaluation.n},
                             {"temperature", config.evaluate.temperature},
                             {"results", results}}
                            .dump()
                            .c_str());
    if (!line.out.empty()) write_items(line.out, tasks, rows);
    return kExitFinished;
  }
  std::printf("%s split, %lld items, %s\n", config.evaluate.split.c_str(),
              static_cast<long long>(rows[0].evaluation.n),
              config.evaluate.temperature > 0 ? "sampled" : "greedy");
  std::printf("%-36s %6s  %-14s  %-11s  %7s  %7s  %s\n", "", "right", "95% interval", "", "ended",
              "tokens", "McNemar p against base (only base : only this right)");
  for (size_t i = 0; i < rows.size(); ++i) print_row(rows[i], i == 0);
  if (!line.out.empty()) write_items(line.out, tasks, rows);
  return kExitFinished;
}

}  // namespace svfleet
