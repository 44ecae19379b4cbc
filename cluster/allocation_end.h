// When to stop because the allocation ends: from its real end and from what this run has measured.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "comm/clock.h"

namespace svfleet {

// Seconds that must be left before another chunk is started: the chunk itself with half as much
// again, saving twice as slow as seen, and 30 s for the launcher to end the step.
double needed_s(double longest_chunk_s, double save_s);
// The same for the warning that Slurm is asked for: never under 60 s. Slurm looks at time limits
// only every 30 s, which is added.
int64_t warning_s(double longest_chunk_s, double save_s);

// Thread-safe. Looks at no signal and asks nobody.
class AllocationEnd {
 public:
  using Clock = std::function<double()>;  // seconds, steady

  // `left_s` counts from now; nothing = no end is known.
  explicit AllocationEnd(std::optional<double> left_s = std::nullopt, Clock clock = steady_clock_s);

  // At a chunk boundary. Once true, always true.
  bool time_is_short(double longest_chunk_s, double save_s);
  bool was_short() const;

 private:
  const Clock clock_;
  std::optional<double> end_;
  mutable std::mutex mutex_;
  bool short_ = false;
};

// Seconds until this Slurm job's allocation ends: SLURM_JOB_END_TIME, or squeue asked once, with a
// time limit, where that is not set, or is near or past: the limit may have been raised. Nothing
// outside of Slurm, when the job has no end and when that is past. One rank asks for all.
std::optional<double> seconds_left_in_job();

// squeue's "2026-11-24T22:40:19", local time, as seconds since 1970. Nothing for "NONE", "N/A"...
std::optional<int64_t> slurm_time(const std::string& text);

}  // namespace svfleet
