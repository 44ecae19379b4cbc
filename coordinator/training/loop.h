// The training run: prompts -> chunks -> rollouts -> rewards -> z gradient -> exact sum -> step ->
// checkpoint. Restartable after a kill at any point of it.
//
// Of one expert, or of several side by side: piece c of a step is chunk c of each that is not
// finished, whose replies are written in one batch. What an expert learns is, to the bit, what it
// would learn in a run of its own.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/clock.h"
#include "coordinator/training/narrator.h"
#include "coordinator/training/step_record.h"
#include "coordinator/training/trainee.h"
#include "coordinator/training/trust.h"

namespace svfleet {

// Collective in all it does: every rank has one, with the same state.
class TrainingLoop {
 public:
  // `run` is copied. `saved`: the state is on the disk. `load_s`: spent on model and factors so
  // far.
  TrainingLoop(const TrainingRun& run, RunState start, bool saved, Narrator::To to, double load_s);

  // Until finished or told to stop; returns the exit code.
  int run();

  // Before it runs: experts/best, where somebody has removed it or it was set aside, again from the
  // checkpoint of its step; says so, also where that is gone too.
  void mend_best();

  RunState state() const;                              // of the run, with all experts
  int64_t saved_step() const { return saved_step_; }   // of the newest checkpoint
  bool asked_to_end() const { return asked_to_end_; }  // by `svfleet stop`

 private:
  int64_t step() const { return step_of(trainees_); }
  bool finished() const;
  void begin();
  // Applies today's z on this rank; replies from now on are made with it.
  void put_in_force();
  bool chunks();  // of the step; false when a stop was asked for
  // The exact sum over all chunks of all ranks, or the fitness of a population, and the optimizer's
  // step.
  std::vector<StepRecord> take_step(const std::vector<Trainee*>& active);
  ExactTotal sum_of(const Trainee& one);
  // Where one is due, or `now`: the mean score on the validation split, and the best expert. False
  // when a stop was asked for.
  bool validate(Trainee& one, bool now = false);
  bool validate_first();  // what the run starts from
  bool checkpoint_is_due(const std::vector<Trainee*>& active) const;
  void checkpoint();  // then drops older ones, and the journal of finished steps
  bool end_asked();   // by `svfleet stop`
  int finish();
  int end_as_asked();
  int stop(const std::string& why);  // says so; the exit code that asks to be started again
  [[noreturn]] void give_up(const Trainee& one);

  // Rank 0: z of a state as experts/NAME.safetensors; of several, below its name.
  void save(const Trainee& one, const std::string& name, const RunState& of);
  void save_all(const std::string& name);
  void mend_best(const Trainee& one);

  template <class Work>
  auto timed(const char* phase, Work work) {
    struct Stop {
      Stopwatch watch;
      double& total;
      ~Stop() { total += watch.lap(); }
    } stop{{}, seconds_[phase]};
    return work();
  }

  const TrainingRun run_;
  RunState shared_;  // of several: what they have in common
  std::vector<Trainee> trainees_;
  Narrator narrator_;
  std::optional<Trust> trust_;  // from begin() on
  double load_s_;
  Handled handled_;                        // chunks of the current step, by this rank
  std::map<std::string, double> seconds_;  // of the current step, by phase
  int64_t saved_step_ = -1;
  bool asked_to_end_ = false;
};

}  // namespace svfleet
