#include "coordinator/training/evaluation.h"

#include <nlohmann/json.hpp>

#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

struct Place {
  size_t task;
  const TaskSpec* spec;
  const Item* item;
  int64_t key;  // over all tasks, in order
};

double score_of(const Place& place, const Rollout& rollout) {
  // A reply cut by the length limit is wrong, unless the task says that it counts as it is.
  if (!rollout.ended && place.spec->truncated != TruncatedRule::kScore) return 0;
  return score_reply(place.spec->rewards, place.spec->prefill + rollout.text, place.item->gold);
}

void add(const ItemResult& item, Tally& tally) {
  ++tally.replies;
  ++tally.counted;
  tally.right += item.right;
  tally.ended += item.ended;
  tally.tokens += item.tokens;
  tally.score_sum += item.score;
}

json counts_of(const Tally& tally) {
  return json::array({tally.counted, tally.right, tally.ended, tally.tokens, tally.score_sum});
}

Tally tally_of(const json& counts, const std::string& task) {
  return {task, counts[0], counts[0], counts[1], counts[2], counts[3], counts[4]};
}

}  // namespace

std::vector<bool> Evaluation::verdicts() const {
  std::vector<bool> verdicts;
  for (const ItemResult& item : items) verdicts.push_back(item.right);
  return verdicts;
}

std::vector<double> Evaluation::scores() const {
  std::vector<double> scores;
  for (const ItemResult& item : items) scores.push_back(item.score);
  return scores;
}

EvaluationOptions evaluation_options(const Config& config) {
  EvaluationOptions options;
  options.batch = config.evaluate.batch;
  options.sampling = {config.evaluate.temperature,    config.evaluate.top_k,
                      config.evaluate.top_p,          config.evaluate.min_p,
                      uint64_t(config.evaluate.seed), 0};
  return options;
}

std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name) {
  std::vector<Place> places;
  for (size_t t = 0; t < tasks.size(); ++t)
    for (const Item& item : tasks[t].items)
      places.push_back({t, &tasks[t].spec, &item, int64_t(places.size())});
  const int64_t n = int64_t(places.size());
  const auto parts = crew.collect(
      {"evaluate", "evaluate " + name, "items", n, options.batch},
      [&](int64_t first, int64_t last) {
        std::vector<Prompt> prompts;
        for (int64_t i = first; i < last; ++i)
          prompts.push_back(make_prompt(base, *places[i].spec, *places[i].item, places[i].key));
        std::vector<Rollout> rollouts = generate(*base.weights, *base.tokenizer, policy.adapter(),
                                                 prompts, 1, options.sampling);
        for (const Rollout& rollout : rollouts)
          if (!rollout.finite)
            throw user_error("the logits of ", name, " hold a NaN or infinity (item ",
                             first + rollout.prompt, "): the model or the expert is damaged");
        json rows = json::array();
        for (const Rollout& rollout : rollouts)
          rows.push_back({first + rollout.prompt, score_of(places[first + rollout.prompt], rollout),
                          rollout.ended, rollout.tokens.size(), rollout.text});
        return rows.dump(-1, ' ', false, json::error_handler_t::replace);
      });
  if (!parts) return std::nullopt;

  Evaluation result;
  std::string counts;
  if (crew.leads()) {
    result.items.resize(n);
    int64_t seen = 0;
    for (const std::string& part : *parts)
      for (const json& row : json::parse(part)) {
        const double score = row[1];
        result.items.at(row[0].get<int64_t>()) = {score, is_right(score), row[2], row[3], row[4]};
        ++seen;
      }
    SVFLEET_CHECK(seen == n, seen, " of ", n, " items answered");
    Tally all;
    std::vector<Tally> by_task(tasks.size());
    for (size_t i = 0; i < result.items.size(); ++i) {
      add(result.items[i], all);
      add(result.items[i], by_task[places[i].task]);
    }
    json told = json::array({counts_of(all)});
    for (const Tally& tally : by_task) told.push_back(counts_of(tally));
    counts = told.dump();
  }
  crew.group().broadcast(counts, 0, "broadcast evaluation");
  const json told = json::parse(counts);
  result.name = name;
  result.all = tally_of(told[0], "");
  for (size_t t = 0; t < tasks.size(); ++t)
    result.by_task.push_back(tally_of(told[t + 1], tasks[t].spec.name));
  return result;
}

}  // namespace svfleet
