// After the ranks of a job have ended: is the job to be started again?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// How far a run has come, as its folders show. More is later.
struct RunProgress {
  int64_t step = -1;    // of the newest checkpoint
  int64_t chunks = 0;   // finished ones of the step after it
  int64_t factors = 0;  // decomposed matrices
  auto operator<=>(const RunProgress&) const = default;
};
RunProgress look_at_progress(const std::string& run_dir, const std::string& store);

// Slurm's count of restarts above which a job whose end nobody could judge is given up. It counts
// all restarts, those after preemptions too, so it is far above any patience.
inline constexpr int64_t kMostBlindRestarts = 50;

struct RunDecision {
  int code = 0;             // an exit code of docs/exit_codes.md; 75: start again
  std::string message;      // one line
  bool taken_over = false;  // somebody else has the run: nothing was written
};

// A job script on a node that was cut off may get here long after Slurm has started the job again
// elsewhere, and a second job on the same run ends at once: these must neither count their end nor
// ask for another start. `ended` says of another job whether it is over (job_ended).
//
// Reads RUN/exit.json, which counts only when it is of this job and restart, and keeps the count of
// restarts without progress in RUN/restarts.json. `patience` of them in a row give code 76. A disk
// that fails is no progress; while it tells nothing at all, the run is started again, but not for
// ever: kMostBlindRestarts.
//
// `refused`: the ranks ended with code 2 before the run began, so none of them could report.
RunDecision decide_after_run(const std::string& run_dir, const std::string& store,
                             const std::string& job, int64_t restarts, int64_t patience,
                             bool (*ended)(const std::string& job, const std::string& cluster),
                             bool refused = false);

}  // namespace svfleet
