// The training run of a set's classifier: an expert that learns to answer the set's question.
#pragma once

#include "coordinator/config/config.h"
#include "coordinator/config/expert_set.h"

namespace svfleet {

// The configuration with the question about each of its tasks in their place, of the train and
// validation splits alone: right is the letter of the task's owner, and nothing else beside it. The
// labels count alike, however many tasks they have. Error(kExitUser) where a task is nobody's and
// the question has no other choice, or all tasks have one owner.
Config classifier_config(Config config, const ExpertSet& set);

}  // namespace svfleet
