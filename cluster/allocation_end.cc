#include "cluster/allocation_end.h"

#include <time.h>

#include <algorithm>
#include <cmath>

#include "cluster/program.h"
#include "cluster/slurm.h"

namespace svfleet {
namespace {

// An end that comes so soon is worth a question.
constexpr int64_t kNear_s = 300;

}  // namespace

double needed_s(double longest_chunk_s, double save_s) {
  return 30 + 1.5 * longest_chunk_s + 2 * save_s;
}

int64_t warning_s(double longest_chunk_s, double save_s) {
  return int64_t(std::ceil(std::max(60.0, 30 + needed_s(longest_chunk_s, save_s))));
}

AllocationEnd::AllocationEnd(std::optional<double> left_s, Clock clock) : clock_(std::move(clock)) {
  if (left_s) end_ = clock_() + *left_s;
}

bool AllocationEnd::time_is_short(double longest_chunk_s, double save_s) {
  if (!end_) return false;
  std::lock_guard lock(mutex_);
  if (clock_() + needed_s(longest_chunk_s, save_s) > *end_) short_ = true;
  return short_;
}

bool AllocationEnd::was_short() const {
  std::lock_guard lock(mutex_);
  return short_;
}

std::optional<int64_t> slurm_time(const std::string& text) {
  std::tm local{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &local);
  if (!end || (*end != '\0' && *end != '\n')) return std::nullopt;
  local.tm_isdst = -1;
  const std::time_t seconds = std::mktime(&local);
  if (seconds == std::time_t(-1)) return std::nullopt;
  return int64_t(seconds);
}

std::optional<double> seconds_left_in_job() {
  const SlurmJob job = slurm_job();
  if (job.job.empty()) return std::nullopt;
  std::optional<int64_t> end = job.end_time;
  // Slurm before 23.02 does not tell it to the job, and what the job was told when it began does
  // not know of a limit that has been raised since.
  if (!end || *end < std::time(nullptr) + kNear_s) {
    const Answer answer = run_program({"squeue", "-a", "-h", "-j", job.job, "-o", "%e"}, 10);
    if (answer.complete && answer.exit_code == 0)
      if (const auto asked = slurm_time(answer.out)) end = asked;
  }
  const std::time_t now = std::time(nullptr);
  if (!end || *end <= now) return std::nullopt;  // who is past it and runs is not held to it
  return double(*end - now);
}

}  // namespace svfleet
