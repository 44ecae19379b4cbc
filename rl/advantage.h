// From the rewards of one prompt's samples to their advantages.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace svfleet {

enum class Baseline { kLeaveOneOut, kGroupMean, kWhitened, kNone };

Baseline baseline(std::string_view name);  // leave_one_out, group_mean, whitened, none
const char* baseline_name(Baseline baseline);

// rewards[k] of one group -> advantages[k]. Leave-one-out: r_i - mean of the others. Whitened
// divides by the group's own standard deviation (0 when it is 0). A group of one has no baseline
// under leave-one-out: advantage 0.
std::vector<double> advantages(Baseline baseline, std::span<const double> rewards);

// False when all advantages are zero: the group cannot move z.
bool has_signal(std::span<const double> advantages);

}  // namespace svfleet
