#include "coordinator/training/evaluation.h"

#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/training/comparison.h"
#include "rl/answer.h"

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
  if (!stands(rollout.ended, place.spec->truncated)) return 0;
  return score_reply(place.spec->rewards, place.spec->prefill + rollout.text, place.item->gold);
}

// The answer that it gives; what is wrong for being cut gives none.
json answer_of(const Place& place, const Rollout& rollout) {
  if (!stands(rollout.ended, place.spec->truncated)) return nullptr;
  const auto answer =
      parsed_answer(place.spec->rewards, place.spec->prefill + rollout.text, place.item->gold);
  return answer ? json(*answer) : json();
}

ItemResult result_of(const json& row) {
  const double score = row[2];
  ItemResult result{score, is_right(score), row[3], row[4], row[5]};
  if (row[6].is_string()) result.answer = row[6];
  return result;
}

json counts_of(const Tally& tally) {
  return json::array({tally.counted, tally.right, tally.ended, tally.tokens, tally.score_sum});
}

Tally tally_of(const json& counts, const std::string& task) {
  return {task, counts[0], counts[0], counts[1], counts[2], counts[3], counts[4]};
}

}  // namespace

EvaluationOptions evaluation_options(const Config& config) {
  EvaluationOptions options;
  options.batch = config.evaluate.batch;
  options.samples = config.evaluate.samples;
  options.sampling = {config.evaluate.temperature,    config.evaluate.top_k,
                      config.evaluate.top_p,          config.evaluate.min_p,
                      uint64_t(config.evaluate.seed), 0};
  return options;
}

std::vector<MeasuredItem> measured_items(const std::vector<Task>& tasks) {
  std::vector<MeasuredItem> items;
  for (const Task& task : tasks)
    for (const Item& item : task.items)
      items.push_back({task.spec.name, item.index, item.messages.back().content, item.gold.answer,
                       item.cluster});
  return items;
}

std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name) {
  std::vector<Place> places;
  for (size_t t = 0; t < tasks.size(); ++t)
    for (const Item& item : tasks[t].items)
      places.push_back({t, &tasks[t].spec, &item, int64_t(places.size())});
  SVFLEET_CHECK(options.entries.empty() || options.entries.size() == places.size(),
                options.entries.size(), " entries for ", places.size(), " items");
  const int64_t n = int64_t(places.size()), samples = options.samples;
  const auto parts = crew.collect(
      {"evaluate", "evaluate " + name, "items", n, options.batch},
      [&](int64_t first, int64_t last) {
        std::vector<Prompt> prompts;
        for (int64_t i = first; i < last; ++i) {
          prompts.push_back(make_prompt(base, *places[i].spec, *places[i].item, places[i].key));
          prompts.back().entry =
              options.entries.empty() ? policy.entry : options.entries[size_t(i)];
        }
        std::vector<Rollout> rollouts = generate(*base.weights, *base.tokenizer, policy.adapter(),
                                                 prompts, int(samples), options.sampling);
        for (const Rollout& rollout : rollouts)
          if (!rollout.finite)
            throw user_error("the logits of ", name, " hold a NaN or infinity (item ",
                             first + rollout.prompt, "): the model or the expert is damaged");
        json rows = json::array();
        for (const Rollout& rollout : rollouts) {
          const Place& place = places[first + rollout.prompt];
          rows.push_back({first + rollout.prompt, rollout.sample, score_of(place, rollout),
                          rollout.ended, rollout.tokens.size(), rollout.text,
                          answer_of(place, rollout)});
        }
        return rows.dump(-1, ' ', false, json::error_handler_t::replace);
      });
  if (!parts) return std::nullopt;

  Evaluation result;
  std::string counts;
  if (crew.leads()) {
    result.replies.resize(size_t(n * samples));
    int64_t seen = 0;
    for (const std::string& part : *parts)
      for (const json& row : json::parse(part)) {
        const int64_t place = row[0].get<int64_t>() * samples + row[1].get<int64_t>();
        result.replies.at(size_t(place)) = result_of(row);
        ++seen;
      }
    SVFLEET_CHECK(seen == n * samples, seen, " replies to ", n, " items");
    Tally all;
    std::vector<Tally> by_task(tasks.size());
    for (size_t i = 0; i < result.replies.size(); ++i) {
      count(result.replies[i], all);
      count(result.replies[i], by_task[places[i / size_t(samples)].task]);
    }
    json told = json::array({counts_of(all)});
    for (const Tally& tally : by_task) told.push_back(counts_of(tally));
    counts = told.dump();
  }
  crew.group().broadcast(counts, 0, "broadcast evaluation");
  const json told = json::parse(counts);
  result.all = tally_of(told[0], "");
  for (size_t t = 0; t < tasks.size(); ++t)
    result.by_task.push_back(tally_of(told[t + 1], tasks[t].spec.name));
  return result;
}

}  // namespace svfleet
