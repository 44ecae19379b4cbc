// An expert with the frozen model and the factors that it belongs to.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/base/base.h"
#include "coordinator/crew/crew.h"
#include "svd/factor.h"

namespace svfleet {

struct OpenedExpert {
  std::string path;  // of its file
  Expert expert;
  Config config;         // adapting what the expert adapts
  Base base;             // with its factors
  std::vector<float> z;  // flat, of the targets of base.basis

  // Those that the expert names; others of the same kinds and layers have z = 1.
  bool adapts(const Target& target) const { return expert.z.contains(target.name); }
  bool moves(size_t t) const;  // whether some coefficient of target t is not the base's
};

// Collective. Nothing when a stop was asked for; Error(kExitUser) as `evaluate` has it where the
// expert is of another model or of other factors.
std::optional<OpenedExpert> open_expert(const Config& config, Crew& crew, const std::string& path);

// What `evaluate` reads of target t, but Q as it is stored, and W in float64 [m, n].
Factor stored_factor(const OpenedExpert& opened, const Target& target);
at::Tensor exact_weight(const OpenedExpert& opened, const Target& target);

// Of the factors of the matrices that the expert names, as its metadata have it.
std::string factors_hash_of(const OpenedExpert& opened);

// Error(kExitUser) where a new expert cannot be written at `path`, or something is there.
void check_new_file(const std::string& path);
// The same; what is there when it is done stays.
void save_new_expert(const std::string& path, const Expert& expert);

}  // namespace svfleet
