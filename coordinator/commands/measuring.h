// What `evaluate` and `adapt` have in common: the items, who is measured on them, and the count of
// readings of a test split.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "coordinator/adaptation/first_pass.h"
#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "coordinator/training/measurement.h"

namespace svfleet {

// Collective. The items of evaluate.split, the same on all ranks and fit to be asked.
std::vector<Task> load_measured_tasks(const Config& config, Crew& crew);

// What is measured beside the base.
struct Asked {
  std::string name;
  std::vector<float> z;
  size_t of = 0;                       // as in MeasuredPolicy
  const FirstPass* adapted = nullptr;  // instead of z: who it has found
};

struct Measuring {
  Measurement measured;
  std::vector<double> seconds;  // of each policy, the base first
};

// Collective: the base, then each of `all`; rank 0 gets it. Nothing when a stop was asked for.
std::optional<Measuring> measure(const Base& base, Crew& crew, const std::vector<Task>& tasks,
                                 const std::vector<Asked>& all, const Config& config);

// On rank 0, before anybody sees a figure: that these experts were measured on a test split.
void note_test_readings(const std::vector<Expert>& experts, const std::vector<std::string>& paths,
                        const Config& config, const std::vector<Task>& tasks,
                        Measurement& measured);

}  // namespace svfleet
