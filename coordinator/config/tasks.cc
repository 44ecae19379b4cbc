// Tasks and rewards: written in the run's file, or in task files of their own.
#include <algorithm>
#include <charconv>
#include <filesystem>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/reader.h"
#include "rl/pattern.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

// A list's entries are named task.0, task.1, ...; a single one just task.
std::string entry_label(const std::string& label, size_t index, bool in_list) {
  return in_list ? label + std::to_string(index) + "." : label;
}

// `reward: last_number` and `rewards: [...]` fill the same list.
const std::set<std::string> kShorthand = {"reward"};

void read_task_mapping(const YAML::Node& node, TaskSpec& task, const Reading& reading,
                       const std::set<std::string>& own_keys);

// The paths inside a task file are relative to that file.
void move_paths(TaskSpec& task, const std::string& folder) {
  if (folder.empty()) return;
  for (const auto& field : task_fields()) {
    if (!field.limits.is_path) continue;
    auto* path = std::get<std::string*>(field.ref(task));
    if (!path->empty() && fs::path(*path).is_relative())
      *path = (fs::path(folder) / *path).lexically_normal().string();
  }
}

void read_task_file(const YAML::Node& path, TaskSpec& task, const std::string& label,
                    const Reading& reading) {
  const std::string where = reading.at(path);
  if (!path.IsScalar() || path.Scalar().empty())
    refuse(where, label + " must be a path of a task file, got " + shown(path));
  std::string file;
  read_value(path, {.is_path = true}, &file, label, reading);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) {
    const std::string folder = reading.source.folder();
    const bool beside = !folder.empty() && fs::path(file).is_relative() &&
                        fs::exists(fs::path(folder) / file, ignored);
    refuse(where, "task file '" + shown(file) +
                      "' does not exist; the path is relative to the working directory" +
                      (beside ? ", and it is there in '" + shown(folder) + "': start svfleet there"
                              : std::string()));
  }
  if (!fs::is_regular_file(file, ignored))
    refuse(where, "task file '" + shown(file) + "' is not a file");
  Reading inner{Source{file, ""}, reading.places, ""};
  const YAML::Node node = parse_yaml(read_file(file), inner.source);
  if (node.IsNull()) refuse(file, "the task file is empty");
  task.name = fs::path(file).stem().string();
  task.file = file;
  Places places;  // labels of a task file are its own
  inner.places = &places;
  read_task_mapping(node, task, inner, {});
  move_paths(task, inner.source.folder());
  check_task(task, "", file, places);
}

void read_task_mapping(const YAML::Node& node, TaskSpec& task, const Reading& reading,
                       const std::set<std::string>& own_keys) {
  std::set<std::string> skip = own_keys;
  skip.insert(kShorthand.begin(), kShorthand.end());
  read_mapping(node, task_fields(), task, "", reading, skip);
  if (const YAML::Node prompt = node["prompt"]; prompt.IsDefined())
    task.prompt_place = reading.at(prompt);
  const YAML::Node reward = node["reward"];
  if (!reward.IsDefined()) return;
  const std::string where = reading.at(reward);
  if (node["rewards"].IsDefined())
    refuse(where, "give either " + reading.label + "reward or " + reading.label + "rewards");
  if (reading.places) (*reading.places)[reading.label + "rewards"] = where;
  Reading inner = reading;
  inner.label += "reward.";
  read_rewards(reward, task.rewards, inner);
}

void read_task(const YAML::Node& node, TaskSpec& task, size_t index, const Reading& reading) {
  const std::string name = reading.label.substr(0, reading.label.size() - 1);
  if (node.IsScalar()) {
    read_task_file(node, task, name, reading);
    return;
  }
  if (!node.IsMap())
    refuse(reading.at(node),
           name + " must be a path, a task or a list of them, got " + shown(node));
  task.name = "task" + (index ? std::to_string(index) : "");
  // {file: PATH, weight: 2}: a task file with changes.
  if (const YAML::Node file = node["file"]; file.IsDefined())
    read_task_file(file, task, reading.label + "file", reading);
  read_task_mapping(node, task, reading, {"file"});
}

}  // namespace

void read_tasks(const YAML::Node& node, std::vector<TaskSpec>& tasks, const Reading& reading) {
  std::vector<TaskSpec> result;
  if (node.IsSequence()) {
    for (size_t i = 0; i < node.size(); ++i) {
      Reading inner = reading;
      inner.label = entry_label(reading.label, i, true);
      read_task(node[i], result.emplace_back(), i, inner);
      const std::string place = inner.label.substr(0, inner.label.size() - 1);
      if (reading.places) reading.places->emplace(place, reading.at(node[i]));
    }
    if (result.empty()) refuse(reading.at(node), "the list of tasks is empty");
  } else {
    read_task(node, result.emplace_back(), 0, reading);
  }
  tasks = std::move(result);
}

std::string reward_problem_of_kind(const RewardSpec& reward) {
  const RewardSpec usual;
  const RewardKind kind = reward.kind;
  if (kind != RewardKind::kRegex && (!reward.pattern.empty() || reward.match_only))
    return "pattern and match_only belong to kind: regex";
  if (kind != RewardKind::kLastNumber && reward.tolerance != usual.tolerance)
    return "tolerance belongs to kind: last_number";
  if (kind != RewardKind::kRandom && reward.seed != usual.seed)
    return "seed belongs to kind: random";
  const bool compares_texts =
      kind == RewardKind::kExact || kind == RewardKind::kContains || kind == RewardKind::kRegex;
  if (!compares_texts && reward.ignore_case != usual.ignore_case)
    return "ignore_case belongs to kind: exact, contains or regex";
  return "";
}

namespace {

void check_reward(const RewardSpec& reward, const std::string& label, const std::string& where) {
  const bool is_regex = reward.kind == RewardKind::kRegex;
  if (is_regex && reward.pattern.empty())
    refuse(where, label + "pattern is missing: a regex reward needs one");
  if (const std::string problem = reward_problem_of_kind(reward); !problem.empty())
    refuse(where, label + problem);
  if (!is_regex) return;
  if (const std::string problem = pattern_problem(reward.pattern); !problem.empty())
    refuse(where, label + "pattern: " + problem);
}

// "0.weight" of task.rewards.0.weight: one setting of one reward.
void read_reward_override(const std::string& key, const std::string& text, const std::string& label,
                          std::vector<RewardSpec>& rewards, const Reading& reading) {
  const std::string where = reading.at(YAML::Node());
  const size_t dot = std::min(key.find('.'), key.size());
  const std::string number = key.substr(0, dot);
  size_t index = rewards.size();
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), index);
  if (code != std::errc() || end != number.data() + number.size() || index >= rewards.size())
    refuse(where, label + ": there " +
                      (rewards.size() == 1 ? "is 1 reward"
                                           : "are " + std::to_string(rewards.size()) + " rewards") +
                      ", counted from 0: name one, such as task.rewards.0.weight");
  const std::string name = dot < key.size() ? key.substr(dot + 1) : "kind";
  const Field<RewardSpec>* field = find_field(reward_fields(), name);
  if (!field)
    refuse_unknown_key(where, name, all_keys(reward_fields()), {},
                       label.substr(0, label.size() - name.size()));
  if (reading.places) (*reading.places)[label.substr(0, label.size() - key.size() - 1)] = where;
  RewardSpec& reward = rewards[index];
  const Ref ref = field->ref(reward);
  read_value(override_node(ref, text, reading.source), field->limits, ref, label, reading);
}

}  // namespace

void read_rewards(const YAML::Node& node, std::vector<RewardSpec>& rewards,
                  const Reading& reading) {
  const std::string name = reading.label.substr(0, reading.label.size() - 1);
  std::vector<RewardSpec> result;
  const auto read_one = [&](const YAML::Node& item, const std::string& label) {
    RewardSpec& reward = result.emplace_back();
    const Field<RewardSpec>& kind = *find_field(reward_fields(), "kind");
    if (item.IsScalar()) {
      read_value(item, kind.limits, kind.ref(reward), label.substr(0, label.size() - 1), reading);
    } else {
      Reading inner = reading;
      inner.label = label;
      read_mapping(item, reward_fields(), reward, "", inner);
      if (!item["kind"].IsDefined())
        refuse(reading.at(item), label + "kind is missing: it must be " + limits_text(kind.limits));
    }
    check_reward(reward, label, reading.at(item));
  };
  if (node.IsSequence()) {
    for (size_t i = 0; i < node.size(); ++i)
      read_one(node[i], entry_label(reading.label, i, node.size() > 1));
    if (result.empty()) refuse(reading.at(node), name + " is an empty list");
  } else if (node.IsScalar() || node.IsMap()) {
    read_one(node, reading.label);
  } else {
    refuse(reading.at(node), name + " must be a list of rewards, got " + shown(node));
  }
  rewards = std::move(result);
}

void read_task_override(const std::string& key, const std::string& text,
                        std::vector<TaskSpec>& tasks, const Reading& reading) {
  const std::string where = reading.at(YAML::Node());
  size_t index = 0;
  std::string name = key;
  const std::string first = key.substr(0, key.find('.'));
  if (!first.empty() && first.find_first_not_of("0123456789") == std::string::npos) {
    index = first.size() > 6 ? 1000000 : std::stoul(first);
    name = first.size() < key.size() ? key.substr(first.size() + 1) : "";
  } else if (tasks.size() > 1) {
    refuse(where, "there are " + std::to_string(tasks.size()) +
                      " tasks; name one, such as task.0." + shown(key));
  }
  if (index >= tasks.size())
    refuse(where,
           "there " +
               std::string(tasks.size() == 1 ? "is 1 task"
                                             : "are " + std::to_string(tasks.size()) + " tasks") +
               ", counted from 0");
  if (name == "reward") name = "rewards";
  if (name.starts_with("rewards."))
    return read_reward_override(name.substr(8), text, "task." + key, tasks[index].rewards, reading);
  const Field<TaskSpec>* field = find_field(task_fields(), name);
  if (!field) {
    if (is_section(task_fields(), name))
      refuse(where, "task." + shown(name) + " is a section; set one of its keys, such as task." +
                        shown(name) + "." + keys_below(task_fields(), name + ".")[0]);
    std::vector<std::string> known = all_keys(task_fields());
    for (auto& candidate : known) candidate = "task." + candidate;
    refuse_unknown_key(where, "task." + key, known, {}, "");
  }
  const Ref ref = field->ref(tasks[index]);
  const std::string label = "task." + key;
  if (reading.places) (*reading.places)[label] = where;
  if (name == "prompt") tasks[index].prompt_place = where;
  read_value(override_node(ref, text, reading.source), field->limits, ref, label, reading);
}

}  // namespace svfleet
