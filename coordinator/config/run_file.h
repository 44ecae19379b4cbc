// What a run folder says of its run: RUN/run.json, and the run's configuration.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

struct RunFile {
  std::string run_id;
  std::string parent_run_dir;  // of a child run; else empty
  int64_t parent_step = 0;
  std::string
      config;  // the name of the CONFIG that it was begun with, where that lies in the folder
  std::vector<std::string> experts = {""};  // names of several; else one without a name
  nlohmann::json all;                       // with what is only for people
};

// RUN/experts/NAME.safetensors; of several experts RUN/experts/EXPERT/NAME.safetensors.
std::string expert_path(const std::string& run_dir, const std::string& name,
                        const std::string& expert);
// Whether all of a run's experts have their final file.
bool has_final(const std::string& run_dir, const std::vector<std::string>& experts);

// Nothing when there is none; Error(kExitUser) when it is something else.
std::optional<RunFile> read_run_file(const std::string& run_dir);

// RUN/effective.yaml; of a run that an earlier version has begun RUN/config.yaml. Empty when the
// folder has neither.
std::string configuration_of(const std::string& run_dir);
std::string effective_path(const std::string& run_dir);

// Whether the folder has what only a run leaves there, but no run.json.
bool is_run_without_name(const std::string& run_dir);
// Error(kExitUser) where that is so; `or_else`: what may be done instead of mending it.
void check_run_has_name(const std::string& run_dir, const std::string& or_else = "");

// The working directory in which the run was begun, from which its paths go; empty when not known.
std::string begun_in(const std::string& run_dir);

// The run folder whose configuration (above) `file` is, by its own path: the folder may have been
// copied or moved since. Empty when it is none.
std::string run_folder_of(const std::string& file);
// The run folder in which the run lies that was begun with this CONFIG of a user's, or empty.
std::string run_begun_with(const std::string& file);

}  // namespace svfleet
