// RUN/ledger.jsonl: where the time of a run went, second by second, over all its starts. Format:
// docs/formats.md.
//
// Rank 0 writes as it goes: when it starts, what each stretch of time was spent on, how it ended.
// `submit` and `after-run` add what they know of the queue. A killed process writes no end: the
// reader takes what came after its last entry as lost, and gives back what the chunk journal saved.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/clock.h"

namespace svfleet {

// What time can be spent on, in the order in which it is shown. Never renamed.
inline constexpr const char* kSpentOn[] = {
    "queued",   // between the submission, or the request to start again, and the start
    "set_up",   // from the start of the process until the run folder is open; ending the job
    "loading",  // model, factors, checkpoint, first merge
    "decomposing", "generating", "gradient", "merging", "reduction", "saving", "evaluating",
    "idle",  // waiting for other ranks or for the last chunk of a step
    "lost",  // computed and then lost by a kill, or computed again
    "hung",  // waiting for ranks that never came, or dead before the job's end
};

// When this process was started, on the same clock.
double process_began_s();

struct Attempt {
  std::string job;  // Slurm's, or empty
  int64_t restarts = 0;
  int64_t ranks = 1, slots = 1;  // slots: chunks at a time, over all ranks
  std::vector<std::string> hosts;
  int64_t start = 0;  // of the ranks within this restart
};

// Why a start ended with an error, as far as it was the fault of machines; empty otherwise.
struct Blame {
  std::vector<std::string> hosts;  // whose own fault it was
  std::string place;               // "step 12, chunk 5": a bug of ours if it fails elsewhere too
};

// The writer; rank 0 only, one thread at a time. `now_s`: when it was so, where it is told later.
// Failing to write is no reason to stop: it is ignored.
class Ledger {
 public:
  // `previous_sign_s`: the last sign of life of the process before this one; 0 = none is known.
  // `hold`: nothing is written before go_ahead(): a finished run that is started again stays as it
  // is.
  Ledger(const std::string& run_dir, const Attempt& attempt, double began_s, double previous_sign_s,
         bool hold);
  void go_ahead();

  // All time since the last entry.
  void spent(const std::string& on, double now_s = wall_clock_s());
  // The same, divided: what `parts` leave over was spent on `rest`. `step`: steps finished.
  void spent(std::map<std::string, double> parts, const std::string& rest, int64_t step,
             double now_s = wall_clock_s());
  // Training goes on after `step`: what was computed beyond it is lost ...
  void resumed(int64_t step);
  // ... but for chunks of the step after `step` found in the journal, which took these seconds,
  // summed over them.
  void restored(int64_t step, int64_t chunks, const std::map<std::string, double>& seconds);
  // The first chunk is handed out: seconds since the process began, and those of them spent on
  // reading the model and its factors.
  void first_chunk(double load_s, double now_s = wall_clock_s());
  // `hung_s` of the time since the last entry were a wait that ended in a timeout.
  void end(int code, const std::string& reason, double hung_s, const Blame& blame = {});

 private:
  void write(nlohmann::ordered_json record);
  const std::string path_;
  const double began_s_;
  double last_s_;
  bool hold_;
  std::vector<nlohmann::ordered_json> held_;
};

// Entries of other processes, appended.
void note_submitted(const std::string& run_dir, const std::vector<std::string>& jobs);
// `again`: the job waits to be started again.
void note_job_end(const std::string& run_dir, const std::string& job, int64_t restarts,
                  int64_t start, bool again, const std::string& message, double last_sign_s);

}  // namespace svfleet
