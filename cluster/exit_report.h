// RUN/exit.json: how a run ended, for the job script that decides whether to start it again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

struct ExitReport {
  std::string reason;  // one line: "finished", "stopped by SIGTERM after step 12", an error
  int code = 0;        // the exit code of rank 0: docs/exit_codes.md
  std::string job;     // Slurm job, or empty
  int64_t restarts = 0;
  int64_t step = 0;   // steps finished and saved
  int64_t start = 0;  // of the ranks within this restart
  // Whose own fault it is; empty: no machine's.
  std::vector<std::string> hosts = {};
  // Of validation; -1: there was none.
  int64_t best_step = -1;
  double best_score = -1;
};

// Atomic; the time (UTC) is added. Rank 0's last act.
void write_exit_report(const std::string& run_dir, const ExitReport& report);
// Nothing when there is none, or it is broken. Times are not read.
std::optional<ExitReport> read_exit_report(const std::string& run_dir);
// What docs/exit_codes.md says to do about a run that ended with `code`: "mend the disk, then start
// it again: nothing saved is lost". Empty when there is nothing to do.
std::string what_to_do(int code, const std::string& run_dir);
// At the start: the absence of the file then means that the run was killed.
void remove_exit_report(const std::string& run_dir);

}  // namespace svfleet
