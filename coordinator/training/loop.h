// The training run: prompts -> chunks -> rollouts -> rewards -> z gradient -> exact sum -> step ->
// checkpoint. Restartable after a kill at any point of it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/clock.h"
#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/training/learner.h"
#include "coordinator/training/narrator.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/step_record.h"
#include "coordinator/training/trust.h"

namespace svfleet {

// Collective in all it does: every rank has one, with the same state.
class TrainingLoop {
 public:
  // What must stay while it lives.
  struct Run {
    const Config& config;
    Crew& crew;
    Base& base;
    RunFolder& folder;
    const TrainingPlan& plan;
  };
  // `saved`: the state is on the disk. `load_s`: spent on model and factors so far.
  TrainingLoop(const Run& run, RunState start, bool saved, Narrator::To to, double load_s);

  // Until finished or told to stop; returns the exit code.
  int run();

  // Before it runs: experts/best, where somebody has removed it or it was set aside, again from the
  // checkpoint of its step; says so, also where that is gone too.
  void mend_best();

  const RunState& state() const { return learner_.state(); }
  int64_t saved_step() const { return saved_step_; }   // of the newest checkpoint
  bool asked_to_end() const { return asked_to_end_; }  // by `svfleet stop`

 private:
  void begin();
  // Applies today's z on this rank; replies from now on are made with it.
  void put_in_force();
  // The step's chunks on this rank: restored from the journal, or computed by whoever is free.
  // Nothing when a stop was asked for.
  std::optional<std::vector<FinishedChunk>> chunks();
  std::vector<FinishedChunk> from_journal(std::vector<int>* missing);
  FinishedChunk compute(int chunk, const ChunkRules& rules, const Replies& replies);
  Replies replies_of(const std::vector<int>& missing);  // that the journal has of these chunks
  // The exact sum over all chunks of all ranks, or the fitness of a population, and the optimizer's
  // step.
  StepRecord step(const std::vector<FinishedChunk>& own);
  ExactTotal sum_of(const std::vector<FinishedChunk>& own);
  // Where one is due, or `now`: the mean score on the validation split, and the best expert. False
  // when a stop was asked for.
  bool validate(bool now = false);
  void checkpoint();  // then drops older ones, and the journal of finished steps
  bool end_asked();   // by `svfleet stop`
  int finish();
  int end_as_asked();
  int stop(const std::string& why);  // says so; the exit code that asks to be started again
  [[noreturn]] void give_up();

  // Rank 0: z of a state as experts/NAME.safetensors.
  void save(const std::string& name, const RunState& of);
  void save(const std::string& name) { save(name, state()); }

  template <class Work>
  auto timed(const char* phase, Work work) {
    struct Stop {
      Stopwatch watch;
      double& total;
      ~Stop() { total += watch.lap(); }
    } stop{{}, seconds_[phase]};
    return work();
  }

  const Run run_;
  Learner learner_;
  Narrator narrator_;
  Policy policy_;
  std::optional<Trust> trust_;  // from begin() on
  double load_s_;
  std::map<std::string, double> seconds_;  // of the current step, by phase
  int64_t restored_ = 0;                   // chunks of this step, by an earlier process
  int64_t saved_step_ = -1;
  bool asked_to_end_ = false;
};

}  // namespace svfleet
