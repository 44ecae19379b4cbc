// What a step did, put together on every rank from the chunks' summaries: the counts that the
// optimizer needs, and what the log and a reader want to see.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoints/finished_chunk.h"
#include "coordinator/crew/crew.h"
#include "coordinator/training/chunk_tally.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/learner.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/tally.h"

namespace svfleet {

// How a rank handled the chunks of a step that it computed.
struct Handled {
  int most_in_flight = 0;     // chunks that one of its workers held at a time
  double longest_held_s = 0;  // a chunk, from being taken to being handed in, beside others or not
};

struct StepRecord {
  ChunkTally tally;                // of all chunks
  std::vector<std::string> tasks;  // their names
  Update update;
  std::map<std::string, double> seconds;  // of this rank, by phase
  double wall_s = 0;
  int64_t restored_chunks = 0;          // found in the journal
  std::vector<int> chunks_by_rank;      // computed now
  std::vector<double> chunk_s_by_rank;  // seconds that they took, summed
  double longest_chunk_s = 0;           // of its own: what it shared with others is divided
  Handled handled;                      // the most of any rank
  std::vector<nlohmann::json> texts;

  nlohmann::json to_json(const RunState& state, const Policy& policy) const;
  std::string line() const;        // for a person, one line
  std::string short_line() const;  // for one of several on a line
};

// Collective. Chunks in order of their number, so that nothing depends on who computed what. The
// first `restored` of this rank's own were computed by an earlier process, the others `handled` by
// it. Error(kExitInternal) unless each chunk of the step is there exactly once.
StepRecord gather_record(Crew& crew, const std::vector<FinishedChunk>& own, int64_t restored,
                         const Handled& handled, const TrainingPlan& plan);

// Mean, min, max and std of z in each matrix.
nlohmann::json z_statistics(const Policy& policy, const Basis& basis);

nlohmann::json validation_record(const RunState& state, const Evaluation& evaluation);

}  // namespace svfleet
