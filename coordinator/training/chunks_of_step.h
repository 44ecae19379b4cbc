// The chunks of one step on this rank: restored from the journal, or computed by whoever is free.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "coordinator/training/chunk.h"
#include "coordinator/training/handover.h"
#include "coordinator/training/narrator.h"
#include "coordinator/training/step_record.h"
#include "coordinator/training/trainee.h"

namespace svfleet {

// Piece c of a step is chunk c of each trainee that is not finished.
class ChunksOfStep {
 public:
  // All of it must stay; `load_s`: spent on model and factors before the run's first chunk.
  ChunksOfStep(const TrainingRun& run, std::vector<Trainee>& trainees, Narrator& narrator,
               double load_s);

  // Collective. Each trainee's `own` on this rank, all with the receipt of its policy. False when a
  // stop was asked for.
  bool compute();

  // Of what this rank computed.
  const Handled& handled() const { return handled_; }
  double journal_s() const { return journal_s_; }  // that workers waited for the journal

 private:
  int64_t step() const { return step_of(trainees_); }
  void restore(Trainee& one) const;
  // The pieces that are to be computed, and in a run of several, on every rank, of whom.
  std::vector<int> missing_pieces() const;
  Replies replies_of_missing() const;  // that the journal has
  // What one worker does: pieces in flight together, or where they cannot be, one by one.
  void work(Hand& hand, const Replies& replies, Handover& handover);
  std::vector<FinishedChunk> compute_members(int piece, const Replies& replies) const;
  std::vector<ChunkWork> works_of(int piece) const;
  ChunkWork work_of(const Trainee& one, int chunk, const Policy& policy) const;
  void keep(std::vector<FinishedChunk> finished);

  const TrainingRun& run_;
  std::vector<Trainee>& trainees_;
  const std::vector<Trainee*> active_;
  Narrator& narrator_;
  const double load_s_;
  std::mutex mutex_;  // of what follows, and of the trainees' own chunks
  Handled handled_;
  double journal_s_ = 0;
};

}  // namespace svfleet
