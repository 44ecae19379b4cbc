// The training run: prompts -> chunks -> rollouts -> rewards -> z gradient -> exact sum -> step ->
// checkpoint. Restartable after a kill at any point of it; trainer.cc reads in that order. What
// happens when memory changes meanwhile: trainer_watch.cc; what it warns of: trainer_warnings.cc.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/clean.h"
#include "comm/clock.h"
#include "coordinator/base/base.h"
#include "coordinator/base/weight_watch.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/log.h"
#include "coordinator/run/progress.h"
#include "coordinator/run/pulse.h"
#include "coordinator/run/stragglers.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/step_record.h"

namespace svfleet {

// Collective in all it does: every rank has one, with the same state.
struct Trainer {
  const Config& config;
  Crew& crew;
  Base& base;
  RunFolder& folder;
  const TrainingPlan& plan;
  // Rank 0 only: what is told about the run.
  RunLog* log;
  Ledger* ledger;
  Pulse* pulse;

  RunState state;
  int64_t saved_step;  // of the newest checkpoint
  Policy policy;
  double load_s = 0;  // spent on reading model and factors and on the first merge
  std::map<std::string, double> seconds{};  // of the current step, by phase
  ChunkSeconds restored_seconds{};          // of chunks that an earlier process computed
  std::string note{};                       // on the last step, beside the progress
  double longest_chunk_s = 0;               // known to rank 0
  int64_t steps_of_small_moves = 0, steps_without_signal = 0;  // in a row, of this process
  int64_t restored = 0;       // chunks of this step, by an earlier process
  bool computed = false;      // a chunk of this process was handed out
  bool asked_to_end = false;  // by `svfleet stop`
  Stragglers stragglers{crew.hosts()};
  std::optional<WeightWatch> watch{};  // from run() on
  CleanRecord clean{};                 // as on the disk; on rank 0

  template <class Work>
  auto timed(const char* phase, Work work) {
    const double start = steady_clock_s();
    struct Stop {
      double start;
      double& total;
      ~Stop() { total += steady_clock_s() - start; }
    } stop{start, seconds[phase]};
    return work();
  }

  std::vector<float> z_at(const std::vector<float>& p) const;
  std::vector<float> z() const { return z_at(state.p); }

  // Applies today's z on this rank; replies from now on are made with it.
  void put_in_force();

  // The step's chunks: restored from the journal, or computed by whoever is free. Nothing when a
  // stop was asked for.
  std::optional<std::vector<FinishedChunk>> chunks(Progress& progress);

  // The exact sum over all chunks of all ranks, and the optimizer's step.
  void step(const std::vector<FinishedChunk>& own, StepRecord& record);

  // The optimizer's step, or none (record.finite is false) when it would leave the finite numbers.
  void update(std::vector<double>& sum, StepRecord& record);

  // Every validate_every steps, and `now`: the mean score on the validation split, the best expert
  // and how long it has been the best. False when a stop was asked for.
  bool validate(bool now = false);

  // Rank 0: z of a state as experts/NAME.safetensors.
  void save(const std::string& name, const RunState& of);
  void save(const std::string& name) { save(name, state); }

  // Rank 0, before anything else: experts/best, where somebody has removed it, again from the
  // checkpoint of its step; says so, also where that is gone too.
  void mend_best();

  // Collective. Looks at the frozen weights as they are now, and at what an earlier process left.
  void start_watch();

  // Rank 0: how far the watch has come, on the disk.
  void note_clean();

  // Collective. Goes on when the watch found no `change`. Else what was made since the last clean
  // step is set aside, and an Error asks for a new start.
  void trust(const std::string& change);

  // Rank 0 saves the state, then drops older checkpoints and the journal of finished steps.
  void checkpoint();

  // Where the step's time went, in the ledger.
  void account(const StepRecord& record);

  // Collective. Whether `svfleet stop` has asked for an end.
  bool end_asked();

  int ended_as_asked();

  bool too_often_nonfinite() const;

  // Until finished or told to stop; returns the exit code.
  int run();

  // Rank 0, once each: what may make the training vain.
  void warn_after(const StepRecord& record);
  void warn_of_small_moves();  // merging into bfloat16 loses them
  // Rank 0: the finished run has learnt nothing.
  void warn_at_end() const;

  int stopped(const std::string& why);  // says so; the exit code that asks to be started again
};

}  // namespace svfleet
