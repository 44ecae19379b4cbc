// What answer a reply gives, so that replies of the same answer can be counted together.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rl/reward.h"

namespace svfleet {

// The answer in one spelling, as the first of the rewards that looks for one reads it: the number
// of last_number, the label of multiple_choice, what regex finds, normalised; nothing where it
// finds none. Where no reward looks for one (exact, contains, random, match_only) it is the whole
// reply, normalised.
std::optional<std::string> parsed_answer(const std::vector<RewardSpec>& rewards,
                                         std::string_view reply, const Gold& gold);

}  // namespace svfleet
