// What validation says of a run: its best step, whether it stopped early, how it finished. All of
// it can be told from a checkpoint.
#pragma once

#include <string>

#include "coordinator/training/plan.h"

namespace svfleet {

// The best is the best by one measure on the same items only: where validation has become another
// (TrainingPlan::validated_on), a run that goes on forgets it. Returns what it was and why it no
// longer counts, or nothing.
std::string forget_other_best(const std::string& validated_on, const Config& config,
                              RunState& state);

// Whether validation has ended it before train.steps.
bool stopped_early(const RunState& state, const Config& config);
// Of several experts: whether all of them are.
bool is_finished(const RunState& state, const Config& config);

// "finished", or "early_stop after 15 of 25 steps, best score 0.812 after step 10".
std::string how_it_finished(const RunState& state, const Config& config);

// The last line of a run that is finished, with what holds it where validation has ended it.
std::string last_words(const RunState& state, const Config& config, bool already,
                       const std::string& expert);

}  // namespace svfleet
