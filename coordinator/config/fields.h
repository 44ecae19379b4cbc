// One description per setting. Reading, range checks, print_config, docs/config.md and bits_config
// all follow these tables; a setting that is not in them does not exist.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/config/config.h"

namespace svfleet {

// A text that may be absent, which is not the same as empty.
struct OptionalText {
  std::string* text;
  bool* present;
};

// Where a value lives in its struct, and so of which type it is.
using Ref = std::variant<std::string*, int64_t*, int*, double*, bool*, std::vector<std::string>*,
                         TruncatedRule*, RewardKind*, OptionalText, std::vector<RewardSpec>*,
                         std::vector<TaskSpec>*, std::vector<ExpertConfig>*>;

// Whether a setting may alter the bits of a training result.
enum class Bits {
  kNo,
  kYes,
  kByContent,       // names a file or folder whose content is hashed elsewhere
  kUnlessDefault,   // as kYes; a run from before the setting existed has the default
  kUnlessConstant,  // train.steps: only a decaying schedule looks at the end of the run
  kFormer,          // read in files of earlier versions, and shown nowhere
};

struct Limits {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;   // `low` itself is not allowed
  bool below_high = false;  // `high` itself is not allowed
  std::vector<std::string> names = {};
  bool required = false;
  bool is_path = false;  // of a file or folder; in a task file: relative to that file
};

template <class S>
struct Field {
  std::string key;  // path from S: "train.steps"
  std::string comment;
  Ref (*ref)(S&);
  Bits bits = Bits::kNo;
  Limits limits = {};
};

const std::vector<Field<Config>>& config_fields();
const std::vector<Field<TaskSpec>>& task_fields();
const std::vector<Field<RewardSpec>>& reward_fields();

// Whether two values would be written alike, and two tasks.
bool alike(const Ref& a, const Ref& b);
bool alike(TaskSpec a, TaskSpec b);

// "a whole number", "a number", "true or false", "a text", "a list of texts", ...
std::string type_text(const Ref& ref);
// "between 1 and 1000000", "at least 0", "one of float32, bfloat16"; empty = anything.
std::string limits_text(const Limits& limits);
// What a section ("train", "few_shot") is about.
std::string section_comment(const std::string& section);
// The shortest text that reads back to the same number.
std::string number_text(double value);

}  // namespace svfleet
