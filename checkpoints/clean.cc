#include "checkpoints/clean.h"

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kCleanFormat[] = "svfleet-clean";
constexpr int kCleanVersion = 1;  // docs/formats.md; never renumber
constexpr char kSuspect[] = ".suspect";

std::string clean_path(const std::string& run_dir) {
  return run_dir + "/clean.json";
}

// The step whose z an expert is; -1: not known, so not ours to judge.
int64_t step_of_expert(const std::string& path) {
  try {
    const Expert expert = load_expert(path);
    const auto found = expert.metadata.find("step");
    int64_t step = -1;
    if (found != expert.metadata.end())
      std::from_chars(found->second.data(), found->second.data() + found->second.size(), step);
    return step;
  } catch (const Error&) {
    return -1;
  }
}

}  // namespace

std::optional<CleanRecord> read_clean(const std::string& run_dir) {
  if (!file_exists(clean_path(run_dir))) return std::nullopt;
  const auto json = nlohmann::json::parse(read_file(clean_path(run_dir)), nullptr, false);
  try {
    if (!json.is_object() || json.at("format") != kCleanFormat) return std::nullopt;
    if (json.at("version") != kCleanVersion)
      throw user_error("'", clean_path(run_dir), "' was written by another version of svfleet; ",
                       "use that one");
    CleanRecord record;
    record.step = json.at("step");
    record.unchecked = json.at("unchecked").get<decltype(record.unchecked)>();
    record.changed = json.at("changed");
    return record;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

void write_clean(const std::string& run_dir, const CleanRecord& record) {
  const nlohmann::ordered_json json = {{"format", kCleanFormat},
                                       {"version", kCleanVersion},
                                       {"step", record.step},
                                       {"unchecked", record.unchecked},
                                       {"changed", record.changed}};
  write_file_atomic(clean_path(run_dir), json.dump() + "\n");
}

std::vector<std::string> set_suspects_aside(const std::string& run_dir, CleanRecord record) {
  write_clean(run_dir, record);
  std::vector<std::string> moved;
  const auto set_aside = [&](const std::string& path) {
    if (rename_file(path, path + kSuspect)) moved.push_back(path + kSuspect);
  };
  for (const int64_t step : checkpoint_steps(run_dir))
    if (step > record.step) set_aside(checkpoint_path(run_dir, step));
  for (const std::string& folder : expert_folders(run_dir))
    for (const char* name : {"best", "last", "final"}) {  // others are the user's
      const std::string path = folder + "/" + name + ".safetensors";
      if (file_exists(path) && step_of_expert(path) > record.step) set_aside(path);
    }
  clear_chunks_before(run_dir, std::numeric_limits<int64_t>::max());
  // None of them may come back with a crash when the record below says that they are gone.
  if (is_folder(run_dir + "/chunks")) sync_parent(run_dir + "/chunks/any", 0);
  record.changed.clear();
  write_clean(run_dir, record);
  return moved;
}

std::vector<std::string> finish_setting_aside(const std::string& run_dir) {
  const auto record = read_clean(run_dir);
  if (!record || record->changed.empty()) return {};
  return set_suspects_aside(run_dir, *record);
}

std::vector<std::string> suspect_checkpoints(const std::string& run_dir) {
  std::vector<std::string> names;
  for (const std::string& name : list_folder(run_dir + "/checkpoints"))
    if (name.ends_with(std::string(".h5") + kSuspect)) names.push_back(name);
  return names;
}

}  // namespace svfleet
