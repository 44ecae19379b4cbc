#include "coordinator/evaluation.h"

#include <nlohmann/json.hpp>

#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

struct Place {
  const TaskSpec* spec;
  const Item* item;
  int64_t key;  // over all tasks, in order
};

bool is_right(const Place& place, const Rollout& rollout) {
  // A reply cut by the length limit is wrong, unless the task says that it counts as it is.
  if (!rollout.ended && place.spec->truncated != TruncatedRule::kScore) return false;
  return score_reply(place.spec->rewards, place.spec->prefill + rollout.text, place.item->gold) >
         1 - 1e-9;
}

}  // namespace

std::vector<bool> Evaluation::verdicts() const {
  std::vector<bool> verdicts;
  for (const ItemResult& item : items) verdicts.push_back(item.right);
  return verdicts;
}

std::optional<Evaluation> evaluate_policy(const Base& base, Crew& crew, const Policy& policy,
                                          const std::vector<Task>& tasks,
                                          const EvaluationOptions& options,
                                          const std::string& name) {
  std::vector<Place> places;
  for (const Task& task : tasks)
    for (const Item& item : task.items)
      places.push_back({&task.spec, &item, int64_t(places.size())});
  const int64_t n = int64_t(places.size());
  const auto parts = crew.collect(
      {"evaluate", "evaluate " + name, "items", n, options.batch},
      [&](int64_t first, int64_t last) {
        std::vector<Prompt> prompts;
        for (int64_t i = first; i < last; ++i)
          prompts.push_back(make_prompt(base, *places[i].spec, *places[i].item, places[i].key));
        std::vector<Rollout> rollouts = generate(*base.model, *base.tokenizer, prompts, 1,
                                                 options.sampling, policy.sampling, policy.d);
        for (const Rollout& rollout : rollouts)
          if (!rollout.finite)
            throw user_error("the logits of ", name, " hold a NaN or infinity (item ",
                             first + rollout.prompt, "): the model or the expert is damaged");
        json rows = json::array();
        for (const Rollout& rollout : rollouts)
          rows.push_back({first + rollout.prompt, is_right(places[first + rollout.prompt], rollout),
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
        result.items.at(row[0].get<int64_t>()) = {row[1], row[2], row[3], row[4]};
        ++seen;
      }
    SVFLEET_CHECK(seen == n, seen, " of ", n, " items answered");
    int64_t tokens = 0;
    for (const ItemResult& item : result.items) {
      result.right += item.right;
      result.ended += item.ended;
      tokens += item.tokens;
    }
    counts = json{result.right, result.ended, tokens}.dump();
  }
  crew.group().broadcast(counts, 0, "broadcast evaluation");
  json c = json::parse(counts);
  result.name = name;
  result.n = n;
  result.right = c[0];
  result.ended = c[1];
  result.mean_tokens = n ? c[2].get<double>() / double(n) : 0;
  return result;
}

}  // namespace svfleet
