#include "coordinator/training/trained_with.h"

#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "comm/error.h"
#include "coordinator/run/record.h"
#include "coordinator/training/plan.h"

namespace svfleet {
namespace {

using nlohmann::json;

// An empty object where the text is none.
json object(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  return value.is_object() ? value : json::object();
}

json model_of(const RunState& run) {
  const json bits = object(run.bits_config);
  return bits.contains("model") && bits["model"].is_object() ? bits["model"] : json::object();
}

// Why the items of a split are not those with this hash, or nothing.
std::string other_items(const TaskSpec& spec, const std::string& split, int64_t limit,
                        const json& hash) {
  const std::string begin =
      "task '" + spec.name + "': the " + split + " items in '" + split_file(spec, split) + "'" +
      (spec.few_shot.empty() ? "" : ", or the solved examples in '" + spec.few_shot + "',") + " ";
  try {
    if (json(load_task(spec, split, limit).content_hash) == hash) return "";
    return begin + "are not those that the run was trained with";
  } catch (const Error& error) {
    return begin + "cannot be read as the run read them: " + error.what();
  }
}

}  // namespace

std::vector<std::string> changed_model_files(const RunState& run, const Config& config,
                                             const FolderHashes& now) {
  if (!run.experts.empty()) return changed_model_files(run.experts.front().state, config, now);
  const auto of_run = config_of(run);
  if (!of_run || resolved_path(of_run->model.path) != resolved_path(config.model.path)) return {};
  const json model = model_of(run);
  FolderHashes before = {text_in(model, "config"), text_in(model, "tokenizer"),
                         text_in(model, "chat_template"), run.config_shape};
  if (of_run->model.chat_template != config.model.chat_template ||
      of_run->model.chat_format != config.model.chat_format)
    before.chat_template.clear();
  return changed_files(config.model.path, now, before);
}

std::vector<std::string> changed_items(const RunState& run) {
  if (!run.experts.empty()) {
    std::vector<std::string> lines;
    for (const ExpertState& expert : run.experts)
      for (const std::string& line : changed_items(expert.state))
        lines.push_back("expert '" + expert.name + "': " + line);
    return lines;
  }
  const auto config = config_of(run);
  if (!config) return {};
  const json training = object(run.bits_config).value("data", json()),
             validation = object(run.validation).value("data", json());
  std::vector<std::string> lines;
  for (size_t i = 0; i < config->tasks.size(); ++i) {
    const TaskSpec& spec = config->tasks[i];
    const auto look = [&](const json& hashes, const char* split, int64_t limit) {
      if (!hashes.is_array() || hashes.size() != config->tasks.size()) return;
      const std::string line = other_items(spec, split, limit, hashes[i]);
      if (!line.empty()) lines.push_back(line);
    };
    look(training, "train", 0);
    look(validation, "validation", config->train.validation_items);
  }
  return lines;
}

std::optional<RunState> check_trained_with(const Config& config, const FolderHashes& now) {
  if (!file_exists(config.run_dir + "/run.json")) return std::nullopt;
  auto run = load_newest_checkpoint(config.run_dir).state;
  if (!run) return std::nullopt;
  std::string files;
  for (const std::string& file : changed_model_files(*run, config, now))
    files += (files.empty() ? "" : " and ") + file;
  if (!files.empty())
    throw user_error(
        files, " changed since the run in '", config.run_dir,
        "' was trained with it; put it back, or give another run_dir to use the model ",
        "as it is now");
  return run;
}

}  // namespace svfleet
