// Small task files for tests.
#pragma once

#include <fstream>
#include <string>

#include "rl/task.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {

inline RewardSpec reward(RewardKind kind) {
  RewardSpec spec;
  spec.kind = kind;
  return spec;
}

// A task named "t" whose three splits are one file with this content.
class TaskFile {
 public:
  explicit TaskFile(const std::string& content, RewardKind kind = RewardKind::kLastNumber) {
    path = scratch / "items.jsonl";
    std::ofstream(path, std::ios::binary) << content;
    spec.name = "t";
    spec.train = spec.validation = spec.test = path;
    spec.rewards = {reward(kind)};
  }
  // Another file in the same folder.
  std::string add(const std::string& name, const std::string& content) {
    std::ofstream(scratch / name, std::ios::binary) << content;
    return scratch / name;
  }
  Task load(int64_t limit = 0) const { return load_task(spec, "train", limit); }

  Scratch scratch;
  std::string path;
  TaskSpec spec;
};

}  // namespace svfleet
