// What a training run will do, resolved once from the configuration and the data: the same on
// every rank, and the same however many ranks there are.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/training/chunk.h"
#include "rl/adamw.h"

namespace svfleet {

struct TrainingPlan {
  std::vector<Task> tasks;            // training split
  std::vector<Task> validation;       // empty when never validated
  std::vector<int64_t> segment_ends;  // of the flat z vector, one per matrix
  int64_t chunks_per_step = 0;
  int64_t rollout_samples = 0;  // replies of a step that are kept to be read
  std::string bits;             // canonical JSON of all that may alter bits: settings and data
  // What validation measures, and on which items; empty when never validated.
  std::string validated_on;
  ChunkRules rules;        // without step and run_id
  AdamWOptions optimizer;  // at the full learning rate

  // The prompts of one chunk of the step that starts at `position` of the keyed order; of a
  // population, all of the step's for each member of the chunk.
  std::vector<ChunkPrompt> prompts(const Config& config, int64_t position, int chunk) const;
};

// What a run reads of its splits: that of training whole, that of validation as far as it is used.
struct RunItems {
  std::vector<Task> train, validation;  // validation: empty when never validated
};
RunItems read_items(const Config& config);

TrainingPlan make_plan(const Config& config, const Base& base, RunItems items);

// An expert of a run: what a run of its own would be.
struct ExpertPlan {
  std::string name;  // empty: the only one
  Config config;     // runs_of_one()
  TrainingPlan plan;
};
// By the configuration's order; `items` likewise.
std::vector<ExpertPlan> plan_experts(const Config& config, const Base& base,
                                     std::vector<RunItems> items);

std::string validated_on(const std::vector<Task>& validation);

// The state that a run starts from: the base model, or train.init_from. A child starts from its
// parent (coordinator/training/fork.h), whatever init_from says.
RunState first_state(const Config& config, const Base& base, const TrainingPlan& plan,
                     const std::string& identity, bool child);
// The same of several.
RunState first_states(const Config& config, const Base& base,
                      const std::vector<ExpertPlan>& experts, const std::string& identity);

// One entry for each setting or content that may alter bits and differs, for people: "train.seed: 1
// now, 0 in the run". Of changed data it names the files.
std::vector<std::string> changes(const RunState& now, const RunState& before,
                                 const std::string& words_now, const std::string& words_before);

// Error(kExitUser) naming what changed when `state` cannot be continued with this configuration,
// model, factor store or hardware.
void check_resumable(const RunState& state, const RunState& fresh, bool allow_different_hardware);

// Error(kExitUser) unless a state is of the experts of this configuration, in their order, and none
// that has been left behind by the others is to go on.
void check_same_experts(const RunState& state, const Config& config);
// Calls `check`; its Error says of which expert it is.
void check_of_expert(const std::string& name, const std::function<void()>& check);

// The part of it that needs no factors: base model, what lies beside its weights, settings, data.
void check_same_base(const RunState& state, const Config& config, const Base& base,
                     const std::vector<Task>& training, const std::string& model_hash);

// The part of it that needs no model: settings, and training data.
void check_settings(const RunState& state, const Config& config, const std::vector<Task>& tasks);

// The configuration that a state was made with; nothing where it is none of this version.
std::optional<Config> config_of(const RunState& state);

}  // namespace svfleet
