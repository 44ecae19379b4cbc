#include "coordinator/training/population.h"

#include <limits>

namespace svfleet {

Policy with_members(const Base& base, const Policy& policy,
                    const std::vector<std::vector<float>>& members) {
  Policy beside;
  beside.z = policy.z;
  beside.hash = policy.hash;
  beside.form = Apply::kActivation;
  ExpertTable table(*base.basis);
  for (const std::vector<float>& z : members) table.add(z);
  beside.table = std::make_shared<ExpertTable>(std::move(table));
  return beside;
}

std::vector<ChunkPrompt> for_members(const std::vector<ChunkPrompt>& prompts, int64_t first,
                                     int64_t count) {
  std::vector<ChunkPrompt> all;
  for (int64_t i = 0; i < count; ++i)
    for (ChunkPrompt prompt : prompts) {
      prompt.member = int(first + i);
      prompt.entry = kOnlyExpert + int(i);
      all.push_back(prompt);
    }
  return all;
}

GroupObjective rewards_alone(ObjectiveOptions options, const std::vector<SampleOutcome>& outcomes) {
  options.baseline = Baseline::kNone;
  GroupObjective group = group_objective(options, outcomes);
  group.advantages.assign(outcomes.size(), 0);
  group.weights.assign(outcomes.size(), 0);
  group.has_signal = false;
  group.skipped = true;
  return group;
}

std::vector<double> fitness_of(const std::vector<ChunkPrompt>& prompts,
                               const std::vector<GroupObjective>& groups,
                               const std::vector<bool>& finite, double wrong) {
  std::vector<double> fitness;
  for (size_t g = 0; g < prompts.size();) {
    const int member = prompts[g].member;
    double rewards = 0;
    int64_t counted = 0;
    bool sound = true;
    for (; g < prompts.size() && prompts[g].member == member; ++g) {
      for (const double reward : groups[g].rewards) rewards += reward;
      counted += groups[g].counted;
      sound = sound && finite[g];
    }
    const double mean = counted ? rewards / double(counted) : wrong;
    fitness.push_back(sound ? mean : std::numeric_limits<double>::quiet_NaN());
  }
  return fitness;
}

}  // namespace svfleet
