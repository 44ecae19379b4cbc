#include "rl/reward.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "comm/random.h"
#include "rl/choice_parse.h"
#include "rl/normalise.h"
#include "rl/number_parse.h"
#include "rl/pattern.h"
#include "rl/phrase.h"

namespace svfleet {
namespace {

// Whether one of the right answers is what the reply says.
template <class Is>
double any_answer(const Gold& gold, Is is) {
  return is(gold.answer) || std::any_of(gold.also.begin(), gold.also.end(), is);
}

double is_equal(const RewardSpec& spec, std::string_view text, const Gold& gold) {
  const std::string form = normalise(text, spec.ignore_case);
  return any_answer(gold, [&](const std::string& answer) {
    const std::string right = normalise(answer, spec.ignore_case);
    if (form == right) return true;
    // "B)" and "42)" are what is left of "(B)" and of a remark: a bracket without its partner says
    // nothing where the answer has none.
    return without_stray_bracket(right) == right && without_stray_bracket(form) == right;
  });
}

double contains(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  const std::string text = normalise(reply, spec.ignore_case);
  return any_answer(gold, [&](const std::string& answer) {
    return has_phrase(text, normalise(answer, spec.ignore_case));
  });
}

double last_number(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  return any_answer(
      gold, [&](const std::string& answer) { return same_number(reply, answer, spec.tolerance); });
}

double multiple_choice(std::string_view reply, const Gold& gold) {
  const auto choice = chosen(reply, gold.labels, gold.choices);
  return choice && any_answer(gold, [&](const std::string& answer) {
           return gold.labels[*choice] == answer;
         });
}

double regex(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  const auto found = find_pattern(spec.pattern, reply);
  if (!found || spec.match_only) return found.has_value();
  return is_equal(spec, *found, gold);
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

constexpr RewardKind kKinds[] = {RewardKind::kExact,          RewardKind::kLastNumber,
                                 RewardKind::kMultipleChoice, RewardKind::kRegex,
                                 RewardKind::kRandom,         RewardKind::kContains};

}  // namespace

RewardKind reward_kind(std::string_view name) {
  for (RewardKind kind : kKinds)
    if (name == reward_name(kind)) return kind;
  throw user_error("unknown reward '", name,
                   "'; use exact, last_number, multiple_choice, regex, contains or random");
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
    case RewardKind::kContains:
      return "contains";
  }
  return "?";
}

double score_reply(const RewardSpec& spec, std::string_view reply, const Gold& gold) {
  switch (spec.kind) {
    case RewardKind::kExact:
      return is_equal(spec, reply, gold);
    case RewardKind::kLastNumber:
      return last_number(spec, reply, gold);
    case RewardKind::kMultipleChoice:
      return multiple_choice(reply, gold);
    case RewardKind::kRegex:
      return regex(spec, reply, gold);
    case RewardKind::kRandom:
      return coin(spec, reply, gold);
    case RewardKind::kContains:
      return contains(spec, reply, gold);
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
  return pattern_problem(spec.pattern);
}

bool needs_gold(const RewardSpec& spec) {
  return spec.kind != RewardKind::kRandom && !(spec.kind == RewardKind::kRegex && spec.match_only);
}

namespace {

std::string answer_problem(const RewardSpec& spec, const std::string& answer, const Gold& gold) {
  if (normalise(answer, false).empty()) return "the gold answer is empty";
  if (spec.kind == RewardKind::kLastNumber && !gold_number(answer)) {
    std::string shown = answer.substr(0, 60);
    while (!shown.empty() && (shown.back() & 0xC0) == 0x80) shown.pop_back();
    return "the gold answer '" + shown + "' is not a number, which reward last_number needs";
  }
  if (spec.kind == RewardKind::kMultipleChoice &&
      std::find(gold.labels.begin(), gold.labels.end(), answer) == gold.labels.end())
    return "the gold answer '" + answer + "' is not the label of a choice";
  return "";
}

}  // namespace

std::string gold_problem(const RewardSpec& spec, const Gold& gold) {
  if (!needs_gold(spec)) return "";
  if (spec.kind == RewardKind::kMultipleChoice) {
    if (gold.labels.empty()) return "the item has no choices, which reward multiple_choice needs";
    if (gold.labels.size() == 1)
      return "the item has one choice alone, '" + gold.choices.front() +
             "', and reward multiple_choice needs two or more to choose among";
    if (gold.labels.size() != gold.choices.size())
      return std::to_string(gold.labels.size()) + " labels for " +
             std::to_string(gold.choices.size()) + " choices";
  }
  std::string problem = answer_problem(spec, gold.answer, gold);
  for (const std::string& answer : gold.also)
    if (problem.empty()) problem = answer_problem(spec, answer, gold);
  return problem;
}

}  // namespace svfleet
