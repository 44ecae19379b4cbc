#include "rl/reward.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "rl/choice_parse.h"
#include "rl/normalise.h"
#include "rl/number_parse.h"
#include "rl/pattern.h"
#include "rl/random.h"

namespace svfleet {
namespace {

double exact(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  return normalise(reply, spec.ignore_case) == normalise(gold.answer, spec.ignore_case);
}

double last_number(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  const auto want = gold_number(gold.answer);
  const auto have = final_number(reply);
  return want && have && std::abs(*have - *want) <= spec.tolerance;
}

double multiple_choice(std::string_view reply, const Gold& gold) {
  const auto choice = chosen(reply, gold.labels, gold.choices);
  return choice && gold.labels[*choice] == gold.answer;
}

double regex(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  const auto found = find_pattern(spec.pattern, reply);
  if (!found || spec.match_only) return found.has_value();
  return normalise(*found, spec.ignore_case) == normalise(gold.answer, spec.ignore_case);
}

// FNV-1a: a key for the coin, not a content hash.
uint64_t key_of(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

double coin(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  return keyed_uniform(static_cast<uint64_t>(spec.seed), Stream::kReward, key_of(reply),
                       key_of(gold.answer), 0) < 0.5;
}

constexpr RewardKind kKinds[] = {RewardKind::kExact, RewardKind::kLastNumber,
                                 RewardKind::kMultipleChoice, RewardKind::kRegex,
                                 RewardKind::kRandom};

}  // namespace

RewardKind reward_kind(std::string_view name) {
  for (RewardKind kind : kKinds)
    if (name == reward_name(kind)) return kind;
  throw user_error("unknown reward '", name,
                   "'; use exact, last_number, multiple_choice, regex or random");
}

const char* reward_name(RewardKind kind) {
  switch (kind) {
    case RewardKind::kExact:
      return "exact";
    case RewardKind::kLastNumber:
      return "last_number";
    case RewardKind::kMultipleChoice:
      return "multiple_choice";
    case RewardKind::kRegex:
      return "regex";
    case RewardKind::kRandom:
      return "random";
  }
  return "?";
}

double score_reply(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  switch (spec.kind) {
    case RewardKind::kExact:
      return exact(spec, reply, gold);
    case RewardKind::kLastNumber:
      return last_number(spec, reply, gold);
    case RewardKind::kMultipleChoice:
      return multiple_choice(reply, gold);
    case RewardKind::kRegex:
      return regex(spec, reply, gold);
    case RewardKind::kRandom:
      return coin(spec, reply, gold);
  }
  return 0;
}

double score_reply(const std::vector<RewardSpec>& specs, std::string_view reply, const Gold& gold) {
  double sum = 0, weights = 0;
  for (const RewardSpec& spec : specs) {
    sum += spec.weight * score_reply(spec, reply, gold);
    weights += spec.weight;
  }
  SVFLEET_CHECK(weights > 0, "weights of ", specs.size(), " rewards sum to ", weights);
  return std::clamp(sum / weights, 0.0, 1.0);
}

std::string reward_problem(const RewardSpec& spec) {
  const std::string name = reward_name(spec.kind);
  if (!(spec.weight > 0) || !std::isfinite(spec.weight))
    return "the weight of reward " + name + " must be above 0";
  if (!(spec.tolerance >= 0)) return "the tolerance of reward " + name + " must not be negative";
  if (spec.kind != RewardKind::kRegex) return "";
  if (spec.pattern.empty()) return "reward regex has no pattern";
  const std::string problem = pattern_problem(spec.pattern);
  return problem.empty() ? "" : "bad regular expression: " + problem;
}

bool needs_gold(const RewardSpec& spec) {
  return spec.kind != RewardKind::kRandom && !(spec.kind == RewardKind::kRegex && spec.match_only);
}

std::string gold_problem(const RewardSpec& spec, const Gold& gold) {
  if (!needs_gold(spec)) return "";
  if (normalise(gold.answer, false).empty()) return "the gold answer is empty";
  if (spec.kind == RewardKind::kLastNumber && !gold_number(gold.answer)) {
    std::string shown = gold.answer.substr(0, 60);
    while (!shown.empty() && (shown.back() & 0xC0) == 0x80) shown.pop_back();
    return "the gold answer '" + shown + "' is not a number, which reward last_number needs";
  }
  if (spec.kind == RewardKind::kMultipleChoice) {
    if (gold.labels.size() < 2)
      return "the item has no choices, which reward multiple_choice needs";
    if (gold.labels.size() != gold.choices.size())
      return std::to_string(gold.labels.size()) + " labels for " +
             std::to_string(gold.choices.size()) + " choices";
    if (std::find(gold.labels.begin(), gold.labels.end(), gold.answer) == gold.labels.end())
      return "the gold answer '" + gold.answer + "' is not the label of a choice";
  }
  return "";
}

}  // namespace svfleet
