// The names that svfleet gives to what it writes in a run folder. All else there is somebody else's
// and is left alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// "step-000012", with which the names of what belongs to a step begin.
std::string step_name(int64_t step);
struct NamedStep {
  int64_t step = 0;
  std::string_view rest;  // of the name, after the number
};
// Nothing for a name that begins otherwise.
std::optional<NamedStep> named_step(std::string_view name);

// `folder` below the run folder: "" itself, "bin", "checkpoints", "chunks" or "experts".
bool is_run_name(const std::string& folder, const std::string& name);
// Of "experts": one that a run writes by itself. The others that is_run_name() knows there are what
// people keep beside it.
bool is_run_expert(const std::string& name);
// RUN/experts, and below it the folder of each expert of a run of several.
std::vector<std::string> expert_folders(const std::string& run_dir);
// Whether `name` is one of these with the ending that a process gives it while it writes or removes
// it (process_mark()).
bool is_run_temporary(const std::string& folder, const std::string& name);

// Whether `name` is one of a list of names.
bool among(const std::string& name, const auto& list) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

}  // namespace svfleet
