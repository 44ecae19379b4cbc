#include "coordinator/adaptation/routing.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/clock.h"
#include "comm/error.h"
#include "rl/answer.h"
#include "worker/model/gradient.h"

namespace svfleet {
namespace {

using nlohmann::json;

// What stands where a prompt would (Zhao et al. 2021, arXiv 2102.09690).
constexpr char kNoContent[] = "N/A";

class Asking {
 public:
  Asking(const Base& base, const Policy& asked, const ExpertSet& set)
      : base_(base), asked_(asked), set_(set), letters_(letters_of(set)) {
    spec_.name = "the question of '" + set.path + "'";
    spec_.chat = base.chat != nullptr;
    spec_.prefill = set.question.prefill;
    spec_.max_new_tokens = set.question.max_new_tokens;
    const bool blank = spec_.prefill.empty() || spec_.prefill.back() == ' ';
    for (const std::string& letter : letters_)
      labels_.push_back(base.tokenizer->encode((blank ? "" : " ") + letter));
  }

  Prompt question(const std::string& about, int64_t key) const {
    Item item;
    item.messages.push_back({"user", question_about(set_, about)});
    Prompt prompt = make_prompt(base_, spec_, item, key);
    if (const std::string problem = length_problem(base_.weights->architecture(), prompt);
        !problem.empty())
      throw user_error("the question about prompt ", key + 1, ": ", problem);
    return prompt;
  }

  // Of each prompt, the log-probability of each letter.
  json likelihoods(const std::vector<Prompt>& prompts) const {
    std::vector<ReplyGroup> groups;
    for (const Prompt& prompt : prompts) {
      ReplyGroup& group = groups.emplace_back();
      group.prompt = &prompt.tokens;
      for (const std::vector<int>& label : labels_) group.replies.push_back({&label});
    }
    json rows = json::array();
    const ReplyLogProbs all = reply_log_probs(*base_.weights, asked_.adapter(), groups, 1);
    for (size_t p = 0; p < prompts.size(); ++p) {
      std::vector<double> totals;
      int64_t tokens = int64_t(prompts[p].tokens.size());
      for (const std::vector<float>& one : all[p]) {
        totals.push_back(std::accumulate(one.begin(), one.end(), 0.0));
        tokens += int64_t(one.size());
      }
      rows.push_back({totals, tokens, 0});
    }
    return rows;
  }

  // Of each prompt, which letter the reply settles on; none is none.
  json answers(const std::vector<Prompt>& prompts) const {
    const Gold choices{"", letters_, choices_of(set_)};
    std::vector<RewardSpec> rewards(1);
    rewards[0].kind = RewardKind::kMultipleChoice;
    json rows = json::array();
    for (const Rollout& reply : generate(*base_.weights, *base_.tokenizer, asked_.adapter(),
                                         prompts, 1, {.temperature = 0})) {
      const auto said = parsed_answer(rewards, spec_.prefill + reply.text, choices);
      json letter;
      for (size_t i = 0; said && i < letters_.size(); ++i)
        if (*said == letters_[i]) letter = i;
      const size_t read = prompts[size_t(reply.prompt)].tokens.size();
      rows.push_back({reply.finite ? letter : json("not finite"), read, reply.tokens.size()});
    }
    return rows;
  }

 private:
  const Base& base_;
  const Policy& asked_;
  const ExpertSet& set_;
  const std::vector<std::string> letters_;
  std::vector<std::vector<int>> labels_;  // tokens of each letter, as it follows the prefill
  TaskSpec spec_;
};

std::vector<double> numbers(const json& row) {
  std::vector<double> values;
  for (const json& value : row) {
    if (!value.is_number())
      throw user_error(
          "the logits of the answer to the question hold a NaN or infinity: the model "
          "or the classifier is damaged");
    values.push_back(value);
  }
  return values;
}

}  // namespace

size_t likeliest(const std::vector<double>& log_probs, const std::vector<double>& without) {
  size_t best = 0;
  const auto worth = [&](size_t i) { return log_probs[i] - (without.empty() ? 0 : without[i]); };
  for (size_t i = 1; i < log_probs.size(); ++i)
    if (worth(i) > worth(best)) best = i;
  return best;
}

std::optional<Routing> route(const Base& base, Crew& crew, const Policy& asked,
                             const ExpertSet& set, const std::vector<std::string>& prompts,
                             int64_t batch) {
  Stopwatch watch;
  const Asking asking(base, asked, set);
  const bool free_answer = set.question.by == AskBy::kAnswer;
  const int64_t n = int64_t(prompts.size());
  const bool calibrated = set.question.by == AskBy::kCalibrated;
  const auto parts = crew.collect(
      {"route", "first pass", "prompts", n + calibrated, batch}, [&](int64_t first, int64_t last) {
        std::vector<Prompt> asked_now;
        for (int64_t i = first; i < last; ++i)
          asked_now.push_back(asking.question(i < n ? prompts[size_t(i)] : kNoContent, i));
        return (free_answer ? asking.answers(asked_now) : asking.likelihoods(asked_now)).dump();
      });
  if (!parts) return std::nullopt;

  std::string told;
  crew.on_leader("choose experts", [&] {
    json rows = json::array(), to = json::array();
    for (const std::string& part : *parts)
      for (json& row : json::parse(part)) rows.push_back(std::move(row));
    const std::vector<double> without =
        calibrated ? numbers(rows.back()[0]) : std::vector<double>();
    const size_t other = set.members.size();
    int64_t read = 0, written = 0;
    for (int64_t i = 0; i < int64_t(rows.size()); ++i) {
      const json& row = rows[size_t(i)];
      read += row[1].get<int64_t>();
      written += row[2].get<int64_t>();
      if (i == n) continue;  // what has no content
      size_t choice = other;
      if (!free_answer)
        choice = likeliest(numbers(row[0]), without);
      else if (!row[0].is_null())
        choice = size_t(numbers(json::array({row[0]}))[0]);
      to.push_back(std::min(choice, other));
    }
    told = json({to, read, written}).dump();
  });
  crew.group().broadcast(told, 0, "broadcast the first pass");
  const json all = json::parse(told);
  return Routing{all[0].get<std::vector<size_t>>(), {watch.lap(), all[1], all[2]}};
}

}  // namespace svfleet
