// What RUN/ledger.jsonl says of a run: its starts, and where its time went. Format:
// docs/formats.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "coordinator/run/ledger.h"

namespace svfleet {

struct AttemptReport {
  Attempt attempt;
  double began_s = 0, ended_s = 0;  // ended_s 0: no end was written
  int code = -1;                    // -1: it left no word
  std::string reason;
  int64_t first_step = -1, last_step = -1;
  double first_chunk_s = -1, load_s = -1;  // from the start of the process; -1: none
  int64_t restored_chunks = 0;
  Blame blame;
};

struct Account {
  std::map<std::string, double> seconds;  // by kSpentOn; they add up to total_s
  double total_s = 0;                     // submitted or running, over all starts
  double goodput = 0;  // share of the time in allocations that was spent on work that counts
  std::vector<AttemptReport> attempts;
  bool waits = false;    // submitted, or to be started again
  std::string last_job;  // Slurm's number of the job that was last submitted or started
  bool running = false;  // as far as the ledger knows
};
// Time since the last entry of a run without an end counts up to `sign_s`, its last sign of life.
// Broken lines are passed over; a missing file gives an empty account.
Account read_account(const std::string& run_dir, double sign_s = 0);

}  // namespace svfleet
