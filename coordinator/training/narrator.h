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
  // `experts`: of the run; they stay, too.
  Narrator(const Config& config, const std::vector<ExpertPlan>& experts, const Crew& crew, To to);

  void begin(int64_t step);  // steps finished before; shows the progress from here on
  void doing(const char* what);
  void spent(const char* on);  // all time since the last entry of the ledger
  void event(const std::string& name, nlohmann::json fields);

  // A step's chunks: those found in the journal; that computing begins, where it does, after
  // `load_s` for the model; how it stands.
  // `pieces`: of `per_step` pieces of the step, those of which nothing is left to compute.
  void restored(int64_t step, const std::vector<FinishedChunk>& chunks, int64_t pieces,
                int64_t per_step);
  void handing_out(double load_s);  // any thread
  void at_work(int64_t step, const ShareReport& now);

  void validated(const std::string& expert, const RunState& state, const Evaluation& evaluation);
  // An expert's part of a step of the run.
  struct Stepped {
    const ExpertPlan& plan;
    const Learner& learner;
    const Policy& policy;
    const StepRecord& record;
  };
  void stepped(int64_t step, const std::vector<Stepped>& experts, const Basis& basis);
  // `states`: of all experts, in the run's order.
  void finished(const std::vector<const RunState*>& states,
                const std::map<std::string, double>& seconds);

  // Until all that was told is on the disk: Error(kExitRequeue) when that takes more than `most_s`.
  void settle(double most_s);

 private:
  // What is known of an expert by this process.
  struct Seen {
    int64_t steps_without_signal = 0;  // in a row
    int64_t replies = 0, cut = 0;      // cut by the length limit
  };

  void account(int64_t step, const std::vector<Stepped>& experts);
  void warn_after(const Stepped& expert);
  void warn_at_end(const ExpertPlan& expert, const RunState& state) const;
  // Why there may be no signal, where nearly all replies were cut; else empty.
  std::string cut_by_the_limit(const ExpertPlan& expert) const;
  Seen& seen(const ExpertPlan& expert) { return seen_[size_t(expert.plan.rules.expert)]; }
  const Seen& seen(const ExpertPlan& expert) const {
    return seen_[size_t(expert.plan.rules.expert)];
  }

  const Config& config_;
  const std::vector<ExpertPlan>& experts_;
  int64_t steps_ = 0, pieces_ = 0;  // of the longest expert; pieces of a step at most
  const To to_;
  const bool tells_;
  const int64_t slots_;  // chunks side by side, over all ranks
  std::optional<Progress> progress_;
  Stragglers stragglers_;
  std::string note_;                     // on the last step, beside the progress
  ChunkSeconds restored_s_;              // of this step's chunks that an earlier process computed
  int64_t restored_ = 0;                 // pieces that it left nothing of
  int64_t pieces_now_ = 0;               // of this step
  std::atomic<bool> handed_out_{false};  // a chunk, by this process
  double longest_held_s_ = 0;            // a chunk, by a worker
  std::vector<Seen> seen_;               // by expert
  std::optional<Scribe> scribe_;         // last: ends before what it writes to
};

}  // namespace svfleet
