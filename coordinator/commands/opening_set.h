// The experts of a command line: those named one by one, and those of a set.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "coordinator/adaptation/first_pass.h"
#include "coordinator/config/command_line.h"
#include "coordinator/crew/crew.h"

namespace svfleet {

struct NamedExperts {
  ExpertSet set;                   // without members where the command line has none
  std::vector<std::string> paths;  // of --expert, of the set's members, of its classifier
  std::vector<Expert> experts;     // of these files
  size_t single = 0;               // how many are of --expert
  size_t measurable = 0;           // of --expert and the set's members: all but the classifier

  std::vector<Expert> first(size_t count) const {
    return {experts.begin(), experts.begin() + std::ptrdiff_t(count)};
  }
};

// Collective. Error(kExitUser) where a file is named twice, the set has not what the strategy
// needs, or ranks read different experts.
NamedExperts open_named(const CommandLine& line, Crew& crew);

// As they are on this model, once its factors are open. Error(kExitUser) as flat_z has it.
OpenedSet on_model(const Base& base, const NamedExperts& named);

// What the prompts of these items say, in their order.
std::vector<std::string> texts_of(const std::vector<Task>& tasks);

// Collective. The shots of few_shot, the same on all ranks; without items for other strategies.
Task shots_of(const AdaptRequest& request, const Config& config, Crew& crew);

}  // namespace svfleet
