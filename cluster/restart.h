// After the ranks of a job have ended: is the job to be started again?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/slurm.h"

namespace svfleet {

// How far a run has come, as its folders show. More is later.
struct RunProgress {
  int64_t step = -1;    // of the newest checkpoint
  int64_t chunks = 0;   // finished ones of the step after it
  int64_t replies = 0;  // likewise
  int64_t factors = 0;  // decomposed matrices
  auto operator<=>(const RunProgress&) const = default;
};
RunProgress look_at_progress(const std::string& run_dir, const std::string& store);

// Slurm's count of restarts above which a job whose end nobody could judge is given up. It counts
// all restarts, those after preemptions too, so it is far above any patience.
inline constexpr int64_t kMostBlindRestarts = 50;

// A start of the ranks that has ended, as its job script knows it.
struct EndedStart {
  std::string run_dir, store;
  std::string job;
  int64_t restarts = 0, start = 0;  // of the job; of the ranks within this restart
  int64_t patience = 3;
  bool refused = false;  // with code 2 before the run began, so that no rank could report
};

struct RunDecision {
  int code = 0;             // an exit code of docs/exit_codes.md; 75: start again
  std::string message;      // one line
  bool taken_over = false;  // somebody else has the run: nothing was written
  // Hosts whose own fault ended starts of this restart of the job, and whether this one was.
  std::vector<std::string> at_fault = {};
  bool by_host = false;
};

// A job script on a node that was cut off may get here long after Slurm has started the job again
// elsewhere, and a second job on the same run ends at once: these must neither count their end nor
// ask for another start. `phase_of` says of another job whether it is over (job_phase).
//
// Reads RUN/exit.json, which counts only when it is of this very start, and keeps the count of
// starts without progress in RUN/restarts.json. `patience` of them in a row give code 76. A disk
// that fails is no progress; while it tells nothing at all, the run is started again, but not for
// ever: kMostBlindRestarts. A disk that fails under several hosts, one after the other too, is no
// host's fault.
RunDecision decide_after_run(const EndedStart& ended,
                             JobPhase (*phase_of)(const std::string& job,
                                                  const std::string& cluster));

}  // namespace svfleet
