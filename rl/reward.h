// Rewards: small pure functions from a reply and a gold answer to a score in [0, 1].
//
//   exact            the whole reply equals the gold after normalise() (rl/normalise.h)
//   contains         the gold stands in the reply as whole words (rl/phrase.h), both normalised
//   last_number      the number that the reply states or ends on (rl/number_parse.h) is within
//                    `tolerance` (absolute) of the gold's
//   multiple_choice  the choice that the reply settles on (rl/choice_parse.h) is the gold's
//   regex            what the pattern finds (rl/pattern.h) equals the gold after normalise(), or
//                    with match_only the pattern matches at all
//   random           a control: what learning from noise looks like
// Where an item has several right answers, one of them is enough.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// kRandom is a coin keyed by (seed, gold, reply). The gold is in the key so that no reply wins
// everywhere, which could be learned.
enum class RewardKind { kExact, kLastNumber, kMultipleChoice, kRegex, kRandom, kContains };

struct RewardSpec {
  RewardKind kind = RewardKind::kLastNumber;
  double weight = 1;
  std::string pattern;  // kRegex: PCRE2; its first group (or whole match) is compared to the gold,
                        // or with `match_only` the match alone is the reward
  bool match_only = false;
  bool ignore_case = true;  // kExact, kContains, kRegex: normalisation
  double tolerance = 1e-6;  // kLastNumber
  int64_t seed = 0;         // kRandom
};

struct Gold {
  std::string answer;
  std::vector<std::string> labels;     // kMultipleChoice: A..E or 1..5, in order
  std::vector<std::string> choices;    // their texts
  std::vector<std::string> also = {};  // other right answers
};

RewardKind reward_kind(
    std::string_view name);  // exact, last_number, multiple_choice, regex, random, contains
const char* reward_name(RewardKind kind);

double score_reply(const RewardSpec& spec, std::string_view reply, const Gold& gold);
// The mean of several rewards by their weights, so again in [0, 1].
double score_reply(const std::vector<RewardSpec>& specs, std::string_view reply, const Gold& gold);

// Empty when the reward itself is well-formed (pattern compiles, weight and tolerance in range).
std::string reward_problem(const RewardSpec& spec);
// False when the score does not depend on an answer (random, regex with match_only).
bool needs_gold(const RewardSpec& spec);
// Empty when the gold can be used with this reward, else why not.
std::string gold_problem(const RewardSpec& spec, const Gold& gold);

}  // namespace svfleet
