#include "coordinator/config/config.h"

#include <algorithm>
#include <filesystem>

#include "checkpoints/file.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/run_file.h"
#include "coordinator/config/utf8.h"

namespace svfleet {
namespace {

// "train.steps=5"
void apply_override(Config& config, const std::string& text, Places& places) {
  const Reading reading{Source{config.file, text}, &places, ""};
  const std::string where = reading.source.at(YAML::Node());
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    refuse(where, "an override is written key=value, such as train.steps=5");
  if (not_utf8_at(text) != text.npos) refuse(where, "not valid UTF-8");
  const std::string key = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);
  if (key.rfind("task.", 0) == 0 && !config.tasks.empty()) {
    read_task_override(key.substr(5), value, config.tasks, reading);
    return;
  }
  if (key.starts_with("experts.")) {
    read_expert_override(key.substr(8), value, config, reading);
    return;
  }
  const Field<Config>* field = find_field(config_fields(), key);
  if (!field) {
    if (is_section(config_fields(), key))
      refuse(where, key + " is a section; set one of its keys, such as " + key + "." +
                        keys_below(config_fields(), key + ".")[0]);
    const size_t dot = key.find('.');
    const bool in_section =
        dot != std::string::npos && is_section(config_fields(), key.substr(0, dot));
    std::vector<std::string> known;
    for (const auto& name : all_keys(config_fields()))
      if (!in_section || name.rfind(key.substr(0, dot + 1), 0) == 0) known.push_back(name);
    refuse_unknown_key(where, key, known, all_keys(config_fields()), "");
  }
  const Ref ref = field->ref(config);
  places[key] = where;
  read_value(override_node(ref, value, reading.source), field->limits, ref, key, reading);
}

}  // namespace

namespace {

// train.form from the two settings that stood for it: that of sampling counts, as it was what
// replies were made with.
void settle_form(Config& config, const Places& places) {
  const FormerSettings& former = config.former;
  if (former.sampling_form.empty() && former.gradient_form.empty()) return;
  const auto at = [&](const char* key) {
    const auto place = places.find(key);
    return place == places.end() ? config.file : place->second;
  };
  const std::string asked = former.sampling_form.empty() ? "merged" : former.sampling_form;
  const bool chosen = places.count("train.form") > 0;
  if (!chosen) config.train.form = asked;
  const char* first = former.sampling_form.empty() ? "train.gradient_form" : "train.sampling_form";
  if ((!former.sampling_form.empty() && former.sampling_form != config.train.form) ||
      (!former.gradient_form.empty() && former.gradient_form != config.train.form))
    config.notes.push_back(
        at(first) + ": train.sampling_form and train.gradient_form are one setting now, " +
        "train.form, which is " + config.train.form +
        (chosen ? " as it is set" : " as that of sampling") + "; put it in their place");
}

void read_text(const std::string& text, const std::vector<std::string>& overrides, Config& config,
               Places& places) {
  const Source source{config.file, ""};
  const Reading reading{source, &places, ""};
  const YAML::Node node = parse_yaml(text, source);
  if (node.IsNull())
    refuse(config.file, "the configuration is empty; see examples/quickstart.yaml");
  read_mapping(node, config_fields(), config, "", reading, {"experts"});
  const auto is_of_one_expert = [](const std::string& o) { return o.starts_with("experts."); };
  for (const auto& o : overrides)
    if (!is_of_one_expert(o)) apply_override(config, o, places);
  settle_form(config, places);
  if (const YAML::Node experts = node["experts"]; experts.IsDefined())
    read_experts(experts, config, reading);
  for (const auto& o : overrides)
    if (is_of_one_expert(o)) apply_override(config, o, places);
  gather_tasks(config);
}

// The configuration of the run in a folder, or empty.
std::string of_run(std::string folder) {
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  return file_exists(folder + "/run.json") ? configuration_of(folder) : "";
}

// Of a run, where one of the two files that say so is gone, or of something else.
[[noreturn]] void refuse_folder(const std::string& folder) {
  if (file_exists(folder + "/run.json"))
    refuse(folder,
           "this run's effective.yaml is missing, the configuration with which it began: put it "
           "back from a copy, or give your own CONFIG with --set run_dir=" +
               folder);
  if (is_run_without_name(folder))
    refuse(folder,
           "this run's run.json is missing, which says which run it is: put it back from a copy; "
           "without it nothing goes on with what is there");
  refuse(folder, "is a folder and holds no run; give a YAML file or a run folder");
}

// A run is where its folder is, wherever that was when its configuration was written.
void stay_in_folder(Config& config, const Places& places) {
  const auto elsewhere = [&](const std::string& folder) {
    return !folder.empty() &&
           (config.run_dir.empty() || resolved_path(folder) != resolved_path(config.run_dir));
  };
  if (const std::string folder = run_folder_of(config.file); elsewhere(folder))
    config.run_dir = folder;
  if (const std::string folder = run_begun_with(config.file);
      elsewhere(folder) && !config.run_dir.empty())
    refuse(places.count("run_dir") ? places.at("run_dir") : config.file,
           "run_dir is '" + config.run_dir +
               "', but the run that was begun with this file lies in '" + folder +
               "' beside it, moved or copied: to go on with it give the folder itself, '" + folder +
               "', or set run_dir to it; to begin another run set run_dir with --set run_dir=...");
}

}  // namespace

Config load_config(const std::string& file, const std::vector<std::string>& overrides,
                   bool for_training) {
  Config config;
  config.file = file;
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    refuse(file, "no such file; the path is relative to the working directory");
  if (std::filesystem::is_directory(file, ignored)) {
    config.file = of_run(file);
    if (config.file.empty()) refuse_folder(file);
  }
  Places places;
  read_text(read_file(config.file), overrides, config, places);
  if (std::none_of(overrides.begin(), overrides.end(),
                   [](const std::string& text) { return text.starts_with("run_dir="); }))
    stay_in_folder(config, places);
  check_config(config, places, for_training);
  return config;
}

Config parse_config(const std::string& text, const std::string& name) {
  Config config;
  config.file = name;
  Places places;
  read_text(text, {}, config, places);
  return config;
}

}  // namespace svfleet
