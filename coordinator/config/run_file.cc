#include "coordinator/config/run_file.h"

#include <algorithm>
#include <filesystem>

#include "checkpoints/file.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kVersion = 1;  // docs/formats.md; never renumber

std::string run_json(const std::string& run_dir) {
  return run_dir + "/run.json";
}

std::string folder_of(const std::string& file) {
  const std::string parent = fs::path(file).parent_path().string();
  return parent.empty() ? "." : parent;
}

// A run.json of something else says nothing about the files beside it.
std::optional<RunFile> run_beside(const std::string& file) {
  try {
    return read_run_file(folder_of(file));
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::optional<RunFile> read_run_file(const std::string& run_dir) {
  const std::string file = run_json(run_dir);
  if (!file_exists(file)) return std::nullopt;
  RunFile run;
  run.all = json::parse(read_file(file), nullptr, false);
  bool newer = false;
  try {
    newer = run.all.is_object() && run.all.value("version", json(kVersion)) > json(kVersion);
    run.run_id = run.all.at("run_id");
    run.config = run.all.value("config", "");
    run.experts = run.all.value("experts", run.experts);
    if (run.all.contains("parent")) {
      run.parent_run_dir = run.all["parent"].at("run_dir");
      run.parent_step = run.all["parent"].at("step");
    }
  } catch (const json::exception&) {
    run.run_id.clear();
  }
  if (newer) throw user_error("'", file, "' was written by a newer svfleet; use that one");
  bool plain = !run.run_id.empty() && !run.experts.empty();
  for (const char c : run.run_id) plain = plain && static_cast<unsigned char>(c) > ' ';
  if (plain) return run;
  throw user_error("'", file, "' is not a run's description; choose another run_dir, or put the ",
                   "run's own file back");
}

std::string expert_path(const std::string& run_dir, const std::string& name,
                        const std::string& expert) {
  return run_dir + "/experts/" + (expert.empty() ? "" : expert + "/") + name + ".safetensors";
}

bool has_final(const std::string& run_dir, const std::vector<std::string>& experts) {
  return std::all_of(experts.begin(), experts.end(), [&](const std::string& expert) {
    return file_exists(expert_path(run_dir, "final", expert));
  });
}

std::string effective_path(const std::string& run_dir) {
  return run_dir + "/effective.yaml";
}

std::string configuration_of(const std::string& run_dir) {
  if (file_exists(effective_path(run_dir))) return effective_path(run_dir);
  const std::string earlier = run_dir + "/config.yaml";
  return file_exists(earlier) ? earlier : "";
}

bool is_run_without_name(const std::string& run_dir) {
  return !file_exists(run_json(run_dir)) && file_exists(effective_path(run_dir)) &&
         (is_folder(run_dir + "/checkpoints") || file_exists(run_dir + "/log.jsonl"));
}

void check_run_has_name(const std::string& run_dir, const std::string& or_else) {
  if (is_run_without_name(run_dir))
    throw user_error("the run in '", run_dir,
                     "' has lost its run.json, which says which run it is; put it back from a copy",
                     or_else);
}

std::string begun_in(const std::string& run_dir) {
  const auto run = run_beside(run_dir + "/run.json");
  const json directory = run ? run->all.value("directory", json()) : json();
  return directory.is_string() ? directory.get<std::string>() : "";
}

std::string run_folder_of(const std::string& file) {
  const std::string folder = folder_of(file), name = fs::path(file).filename().string();
  if (name == "effective.yaml") return file_exists(run_json(folder)) ? folder : "";
  const bool earlier = name == "config.yaml" && !file_exists(effective_path(folder));
  return earlier && run_beside(file) ? folder : "";
}

std::string run_begun_with(const std::string& file) {
  const auto run = run_beside(file);
  return run && run->config == fs::path(file).filename().string() ? folder_of(file) : "";
}

}  // namespace svfleet
