// Several experts that one run trains together: the list `experts`, read over the run's own task
// and train settings, and what its entries must have in common.
#include <algorithm>
#include <charconv>

#include "comm/counted.h"
#include "coordinator/config/reader.h"

namespace svfleet {
namespace {

// More than any machine trains at once, and the number fits into a record of the journal.
constexpr size_t kMostExperts = 1000;
constexpr size_t kLongestName = 64;

std::string label_of(size_t expert) {
  return "experts." + std::to_string(expert);
}

// As a folder's name on any disk, and as a part of `--set experts.NAME.train.seed=1`.
bool is_name(const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= kLongestName && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), plain);
}

// As the numbers of a list are what overrides may name, too.
bool is_number(const std::string& name) {
  return name.find_first_not_of("0123456789") == std::string::npos;
}

void read_name(const YAML::Node& node, const std::string& label, const Reading& reading,
               std::string* name) {
  read_value(node, {.required = true}, name, label + ".name", reading);
  if (!is_name(*name) || is_number(*name))
    refuse(reading.at(node), label + ".name must be letters, digits, - and _, at most " +
                                 std::to_string(kLongestName) +
                                 " and not only digits, since it is a folder's name, got '" +
                                 shown(*name) + "'");
}

void read_expert(const YAML::Node& node, const std::string& label, const Config& config,
                 const Reading& reading, ExpertConfig& expert) {
  Config own = config;  // the table of settings is that of a Config
  Reading inner = reading;
  inner.label = label + ".";
  for (const auto& [key_node, value] : pairs_of(node, inner.label, reading)) {
    const std::string key = key_node.Scalar();
    inner.key_place = reading.source.at(key_node);
    if (reading.places) (*reading.places)[label + "." + key] = inner.key_place;
    if (key == "name") {
      read_name(value, label, inner, &expert.name);
    } else if (key == "task") {
      read_value(value, {}, &own.tasks, label + ".task", inner);
    } else if (key == "train") {
      read_mapping(value, config_fields(), own, "train.", inner);
    } else {
      std::vector<std::string> all = all_keys(config_fields());
      std::erase_if(all, [](const std::string& known) { return !known.starts_with("train."); });
      refuse_unknown_key(inner.key_place, key, {"name", "task", "train"}, all, inner.label);
    }
  }
  if (expert.name.empty())
    refuse(reading.at(node), label + ".name is missing: its folder in run_dir/experts");
  expert.tasks = std::move(own.tasks);
  expert.train = std::move(own.train);
}

// By name, or by number from 0.
size_t named_expert(const std::string& name, const Config& config, const std::string& where) {
  std::string names;
  for (size_t i = 0; i < config.experts.size(); ++i) {
    if (config.experts[i].name == name || std::to_string(i) == name) return i;
    names += (names.empty() ? "" : ", ") + config.experts[i].name;
  }
  refuse(where, config.experts.empty()
                    ? "the configuration has no experts; give them as a list in the file"
                    : "there is no expert '" + shown(name) + "'; the experts are " + names);
}

// Settings of which the model, the batch and the checkpoints of a run have one value.
constexpr const char* kShared[] = {"train.method",
                                   "train.texts",
                                   "train.temperature",
                                   "train.form",
                                   "train.prompts_per_chunk",
                                   "train.rows_per_worker",
                                   "train.parametrisation",
                                   "train.core",
                                   "train.core_rank",
                                   "train.core_alpha",
                                   "train.core_numbers",
                                   "train.core_tied",
                                   "train.checkpoint_every",
                                   "train.keep_checkpoints"};

// The places of an expert's own settings in place of the run's.
Places places_of(const Places& places, size_t expert) {
  const std::string label = label_of(expert) + ".";
  Places own = places;
  for (const auto& [key, place] : places)
    if (key.starts_with(label)) own[key.substr(label.size())] = place;
  return own;
}

std::string place_in(const Places& places, const std::string& key, const Config& config) {
  const auto found = places.find(key);
  return found == places.end() ? config.file : found->second;
}

void check_shared(const Config& config, const Places& places) {
  Config run = config;
  for (size_t i = 0; i < config.experts.size(); ++i) {
    Config own = config;
    own.train = config.experts[i].train;
    for (const char* key : kShared) {
      const Field<Config>& field = *find_field(config_fields(), key);
      if (alike(field.ref(run), field.ref(own))) continue;
      refuse(place_in(places, label_of(i) + "." + key, config),
             "expert '" + config.experts[i].name + "' has a " + key +
                 " of its own, which all experts of a run share: set it in the run's train, or "
                 "train it in a run of its own");
    }
  }
  if (config.train.evolves())
    refuse(place_in(places, "train.method", config),
           "train.method es trains one expert: its population fills the batch; train each expert "
           "in a run of its own");
  if (config.train.form != "activation")
    refuse(place_in(places, "train.form", config),
           "train.form " + config.train.form +
               " is one expert's copy of the weights, and there are " +
               counted(int64_t(config.experts.size()), "expert") +
               " here: set train.form to activation");
}

}  // namespace

void read_experts(const YAML::Node& node, Config& config, const Reading& reading) {
  if (!node.IsSequence() || node.size() == 0)
    refuse(reading.at(node), "experts must be a list of {name, task, train}, got " +
                                 (node.IsSequence() ? "an empty one" : shown(node)));
  if (node.size() > kMostExperts)
    refuse(reading.at(node), "experts must be at most " + std::to_string(kMostExperts) + ", got " +
                                 std::to_string(node.size()));
  for (size_t i = 0; i < node.size(); ++i) {
    ExpertConfig expert;
    read_expert(node[i], label_of(i), config, reading, expert);
    for (const ExpertConfig& other : config.experts)
      if (other.name == expert.name)
        refuse(reading.at(node[i]),
               "two experts have the name '" + expert.name + "'; each needs one of its own");
    config.experts.push_back(std::move(expert));
  }
}

void read_expert_override(const std::string& key, const std::string& text, Config& config,
                          const Reading& reading) {
  const std::string where = reading.source.at(YAML::Node());
  const size_t dot = std::min(key.find('.'), key.size());
  const size_t number = named_expert(key.substr(0, dot), config, where);
  const std::string setting = dot < key.size() ? key.substr(dot + 1) : "";
  ExpertConfig& expert = config.experts[number];
  if (setting.starts_with("task."))
    return read_task_override(setting.substr(5), text, expert.tasks, reading);
  Config own = config;
  own.tasks = expert.tasks;
  own.train = expert.train;
  const Field<Config>* field = find_field(config_fields(), setting);
  if (!field || (setting != "task" && !setting.starts_with("train."))) {
    std::vector<std::string> known = all_keys(config_fields());
    std::erase_if(known, [](const std::string& k) { return !k.starts_with("train."); });
    known.push_back("task");
    refuse_unknown_key(where, setting, known, {}, "experts." + expert.name + ".");
  }
  const Ref ref = field->ref(own);
  if (reading.places) (*reading.places)[label_of(number) + "." + setting] = where;
  read_value(override_node(ref, text, reading.source), field->limits, ref, "experts." + key,
             reading);
  expert.tasks = std::move(own.tasks);
  expert.train = std::move(own.train);
}

void gather_tasks(Config& config) {
  if (config.experts.size() == 1) config = runs_of_one(config).front();
  if (config.experts.empty()) return;
  config.tasks.clear();
  for (const ExpertConfig& expert : config.experts)
    for (TaskSpec task : expert.tasks) {
      const auto is = [&](const TaskSpec& other) { return alike(other, task); };
      if (std::any_of(config.tasks.begin(), config.tasks.end(), is)) continue;
      const auto has_name = [&](const TaskSpec& other) { return other.name == task.name; };
      if (std::any_of(config.tasks.begin(), config.tasks.end(), has_name))
        task.name = expert.name + "/" + task.name;
      config.tasks.push_back(std::move(task));
    }
}

void check_experts(const Config& config, const Places& places, bool for_training) {
  for (size_t i = 0; i < config.experts.size(); ++i)
    if (config.experts[i].tasks.empty())
      refuse(place_in(places, label_of(i) + ".name", config),
             label_of(i) + ".task is missing: give expert '" + config.experts[i].name +
                 "' a task, or give one for all beside experts");
  if (for_training) check_shared(config, places);
  const std::vector<Config> runs = runs_of_one(config);
  for (size_t i = 0; i < runs.size(); ++i)
    check_config(runs[i], places_of(places, i), for_training);
}

std::vector<std::string> expert_names(const Config& config) {
  if (config.experts.empty()) return {""};
  std::vector<std::string> names;
  for (const ExpertConfig& expert : config.experts) names.push_back(expert.name);
  return names;
}

std::vector<Config> runs_of_one(const Config& config) {
  if (config.experts.empty()) return {config};
  std::vector<Config> runs;
  for (const ExpertConfig& expert : config.experts) {
    Config& run = runs.emplace_back(config);
    run.experts.clear();
    run.tasks = expert.tasks;
    run.train = expert.train;
  }
  return runs;
}

}  // namespace svfleet
