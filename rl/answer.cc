#include "rl/answer.h"

#include "rl/choice_parse.h"
#include "rl/normalise.h"
#include "rl/number_parse.h"
#include "rl/pattern.h"

namespace svfleet {
namespace {

bool looks_for_answer(const RewardSpec& spec) {
  return spec.kind == RewardKind::kLastNumber || spec.kind == RewardKind::kMultipleChoice ||
         (spec.kind == RewardKind::kRegex && !spec.match_only);
}

std::optional<std::string> answer_for(const RewardSpec& spec, std::string_view reply,
                                      const Gold& gold) {
  if (spec.kind == RewardKind::kLastNumber) return spelt_number(reply, spec.tolerance);
  if (spec.kind == RewardKind::kMultipleChoice) {
    const auto choice = chosen(reply, gold.labels, gold.choices);
    return choice ? std::optional(gold.labels[size_t(*choice)]) : std::nullopt;
  }
  const auto found = find_pattern(spec.pattern, reply);
  return found ? std::optional(normalise(*found, spec.ignore_case)) : std::nullopt;
}

}  // namespace

std::optional<std::string> parsed_answer(const std::vector<RewardSpec>& rewards,
                                         std::string_view reply, const Gold& gold) {
  for (const RewardSpec& spec : rewards)
    if (looks_for_answer(spec)) return answer_for(spec, reply, gold);
  return normalise(reply, rewards.empty() || rewards[0].ignore_case);
}

}  // namespace svfleet
