// What is told of a training run while it goes on: log, ledger, sign of life, progress, warnings.
//
// On rank 0; elsewhere every call does nothing. What goes to a disk is written by a thread of its
// own, in order; settle() waits for it.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/crew/crew.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/log.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/pulse.h"
#include "coordinator/run/scribe.h"
#include "coordinator/run/stragglers.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/learner.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/step_record.h"

namespace svfleet {

class Narrator {
 public:
  // All three on rank 0, none elsewhere; they stay while it lives.
  struct To {
    RunLog* log = nullptr;
    Ledger* ledger = nullptr;
    Pulse* pulse = nullptr;
  };
  Narrator(const Config& config, const TrainingPlan& plan, const Crew& crew, To to);

  void begin(int64_t step);  // steps finished before; shows the progress from here on
  void doing(const char* what);
  void spent(const char* on);  // all time since the last entry of the ledger
  void event(const std::string& name, nlohmann::json fields);

  // A step's chunks: those found in the journal; that computing begins, where it does, after
  // `load_s` for the model; how it stands.
  void restored(int64_t step, const std::vector<FinishedChunk>& chunks);
  void handing_out(double load_s);  // any thread
  void at_work(int64_t step, const ShareReport& now);

  void validated(const RunState& state, const Evaluation& evaluation);
  void stepped(const Learner& learner, const Policy& policy, const Basis& basis,
               const StepRecord& record);
  void finished(const Learner& learner, const std::map<std::string, double>& seconds);

  // Until all that was told is on the disk: Error(kExitRequeue) when that takes more than `most_s`.
  void settle(double most_s);

 private:
  void account(const RunState& state, const StepRecord& record);
  void warn_after(const RunState& state, const StepRecord& record);
  void warn_at_end(const RunState& state) const;
  // Why there may be no signal, where nearly all replies were cut; else empty.
  std::string cut_by_the_limit() const;

  const Config& config_;
  const TrainingPlan& plan_;
  const To to_;
  const bool tells_;
  const int64_t slots_;  // chunks side by side, over all ranks
  std::optional<Progress> progress_;
  Stragglers stragglers_;
  std::string note_;                     // on the last step, beside the progress
  ChunkSeconds restored_s_;              // of this step's chunks that an earlier process computed
  int64_t restored_ = 0;                 // of them
  std::atomic<bool> handed_out_{false};  // a chunk, by this process
  double longest_chunk_s_ = 0;
  int64_t steps_without_signal_ = 0;  // in a row, of this process
  int64_t replies_ = 0, cut_ = 0;     // of this process; cut by the length limit
  std::optional<Scribe> scribe_;      // last: ends before what it writes to
};

}  // namespace svfleet
