// Rewards: small pure functions from a reply and a gold answer to a score in [0, 1].
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

enum class RewardKind { kExact, kLastNumber, kMultipleChoice, kRegex, kRandom };
// kRandom is a control, a coin keyed by (seed, reply): what learning from noise looks like.

struct RewardSpec {
  RewardKind kind = RewardKind::kLastNumber;
  double weight = 1;
  std::string pattern;  // kRegex: PCRE2; its first group (or whole match) is compared to the gold,
                        // or with `match_only` the match alone is the reward
  bool match_only = false;
  bool ignore_case = true;  // kExact: normalisation
  double tolerance = 1e-6;  // kLastNumber
};

struct Gold {
  std::string answer;
  std::vector<std::string> labels;   // kMultipleChoice: A..E or 1..5, in order
  std::vector<std::string> choices;  // their texts
};

RewardKind reward_kind(
    std::string_view name);  // exact, last_number, multiple_choice, regex, random
const char* reward_name(RewardKind kind);

double score_reply(const RewardSpec& spec, std::string_view reply, const Gold& gold);
// Empty when the gold can be used with this reward, else why not.
std::string gold_problem(const RewardSpec& spec, const Gold& gold);

}  // namespace svfleet
