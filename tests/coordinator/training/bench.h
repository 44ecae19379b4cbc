// A toy model and a task for it, for tests of chunks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coordinator/training/chunk.h"
#include "coordinator/training/plan.h"
#include "tests/worker/model/fixtures.h"
#include "worker/threads.h"

namespace svfleet {

struct Bench {
  Config config;
  Crew crew;
  Base base;
  TrainingPlan plan;

  static Config make_config(const std::string& type) {
    set_compute_threads(1);
    Config config;
    config.model.path = tiny_folder("tiny_llama_plain");
    config.model.dtype = type;
    config.svd.targets = {"all"};
    TaskSpec task;
    task.name = "vowels";
    task.train = SVFLEET_SOURCE_DIR "/examples/tasks/max3/train.jsonl";
    task.max_new_tokens = 16;
    task.truncated = TruncatedRule::kScore;
    RewardSpec reward;
    reward.kind = RewardKind::kRegex;
    reward.pattern = "[aeiou].*[aeiou]";
    reward.match_only = true;
    task.rewards = {reward};
    config.tasks = {task};
    return config;
  }

  explicit Bench(const std::string& type = "float32") : Bench(make_config(type)) {}
  explicit Bench(const Config& given) : config(given), crew(config), base(open_base(config, crew)) {
    base.basis =
        std::make_unique<Basis>(decompose_all(*base.weights, config.svd.targets), *base.weights);
    plan = make_plan(config, base, read_items(config));
    plan.rules.run_id = "test";
  }
  std::vector<float> ones() const {
    return std::vector<float>(size_t(total_length(base.basis->targets())), 1.0f);
  }
};

}  // namespace svfleet
