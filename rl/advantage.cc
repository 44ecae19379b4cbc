#include "rl/advantage.h"

#include <cmath>

#include "comm/error.h"

namespace svfleet {

Baseline baseline(std::string_view name) {
  for (Baseline b :
       {Baseline::kLeaveOneOut, Baseline::kGroupMean, Baseline::kWhitened, Baseline::kNone})
    if (name == baseline_name(b)) return b;
  throw user_error("unknown baseline '", name,
                   "'; use leave_one_out, group_mean, whitened or none");
}

const char* baseline_name(Baseline baseline) {
  switch (baseline) {
    case Baseline::kLeaveOneOut:
      return "leave_one_out";
    case Baseline::kGroupMean:
      return "group_mean";
    case Baseline::kWhitened:
      return "whitened";
    case Baseline::kNone:
      return "none";
  }
  return "?";
}

std::vector<double> advantages(Baseline baseline, std::span<const double> rewards) {
  const auto n = static_cast<double>(rewards.size());
  std::vector<double> result(rewards.begin(), rewards.end());
  if (baseline == Baseline::kNone || rewards.empty()) return result;
  bool equal = true;
  double sum = 0;
  for (double r : rewards) {
    equal = equal && r == rewards[0];
    sum += r;
  }
  // Rounding of the mean must not turn equal rewards into a signal.
  if (equal) return std::vector<double>(rewards.size(), 0.0);
  const double mean = sum / n;
  if (baseline == Baseline::kLeaveOneOut) {
    // r_i - (sum - r_i) / (n - 1), written so that it stays one rounding away from the group mean.
    for (double& a : result) a = (a - mean) * (n / (n - 1));
    return result;
  }
  double squares = 0;
  for (double& a : result) {
    a -= mean;
    squares += a * a;
  }
  if (baseline == Baseline::kWhitened) {
    const double deviation = std::sqrt(squares / n);
    for (double& a : result) a = deviation > 0 ? a / deviation : 0;
  }
  return result;
}

bool has_signal(std::span<const double> advantages) {
  for (double a : advantages)
    if (a != 0) return true;
  return false;
}

}  // namespace svfleet
