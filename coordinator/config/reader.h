// From YAML, or the text of an override, into a struct described by a table. Inside the config
// library only.
#pragma once

#include <yaml-cpp/yaml.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/config/fields.h"

namespace svfleet {

// Where a value came from, for messages: "run.yaml:12" or "--set train.steps=5".
struct Source {
  std::string file;
  std::string override_text;  // not empty: an override
  std::string at(const YAML::Node& node) const;
  std::string folder() const;  // of the file
};

// Lines of the settings that were given, for the checks that compare several.
using Places = std::map<std::string, std::string>;  // label -> "run.yaml:12"

struct Reading {
  Source source;
  Places* places = nullptr;
  std::string label;           // before each key in messages: "train." or "task.rewards."
  std::string key_place = {};  // of the key being read: a missing value has no line of its own
  std::string at(const YAML::Node& node) const {
    return node.IsNull() && !key_place.empty() ? key_place : source.at(node);
  }
};

// One whole YAML document. Errors name the line.
YAML::Node parse_yaml(const std::string& text, const Source& source);

// Throws "run.yaml:12: message".
[[noreturn]] void refuse(const std::string& where, const std::string& message);
// A value as it may stand in a one-line message.
std::string shown(std::string text);
std::string shown(const YAML::Node& node);  // 'text', a list, a mapping, nothing

[[noreturn]] void refuse_unknown_key(const std::string& where, const std::string& key,
                                     const std::vector<std::string>& known,
                                     const std::vector<std::string>& all, const std::string& label);

// Sets one value; `label` is its full name. Lists of tasks and rewards have readers of their own.
void read_value(const YAML::Node& node, const Limits& limits, Ref ref, const std::string& label,
                const Reading& reading);
void read_tasks(const YAML::Node& node, std::vector<TaskSpec>& tasks, const Reading& reading);
void read_rewards(const YAML::Node& node, std::vector<RewardSpec>& rewards, const Reading& reading);

// The pairs of a mapping, each key once; `label` names the mapping in messages.
std::vector<std::pair<YAML::Node, YAML::Node>> pairs_of(const YAML::Node& node,
                                                        const std::string& label,
                                                        const Reading& reading);

// One key of an override, from its raw text: no quotes are needed around a text.
void read_task_override(const std::string& key, const std::string& text,
                        std::vector<TaskSpec>& tasks, const Reading& reading);
YAML::Node override_node(const Ref& ref, const std::string& text, const Source& source);

// The checks of one task and of the whole, after everything is read.
void check_task(const TaskSpec& task, const std::string& label, const std::string& where,
                const Places& places);
// What a reward has that its kind does not use, or empty.
std::string reward_problem_of_kind(const RewardSpec& reward);
void check_config(const Config& config, const Places& places, bool for_training);

// The list `experts`, once everything else is read, overrides too: each starts from the run's tasks
// and settings. An override of one is "experts.NAME.train.seed=1". (experts.cc)
void read_experts(const YAML::Node& node, Config& config, const Reading& reading);
void read_expert_override(const std::string& key, const std::string& text, Config& config,
                          const Reading& reading);
// A run of several has all the tasks of its experts, each once; a list of one is that expert's run.
void gather_tasks(Config& config);
// What they must share, and the checks of each as a run of its own.
void check_experts(const Config& config, const Places& places, bool for_training);

// Keys directly below `prefix` ("" or "few_shot.") in a table: fields and sections.
template <class S>
std::vector<std::string> keys_below(const std::vector<Field<S>>& fields,
                                    const std::string& prefix) {
  std::vector<std::string> keys;
  for (const auto& field : fields) {
    if (field.key.rfind(prefix, 0) != 0 || field.bits == Bits::kFormer) continue;
    std::string rest = field.key.substr(prefix.size());
    rest = rest.substr(0, rest.find('.'));
    if (keys.empty() || keys.back() != rest) keys.push_back(rest);
  }
  return keys;
}

template <class S>
std::vector<std::string> all_keys(const std::vector<Field<S>>& fields) {
  std::vector<std::string> keys;
  for (const auto& field : fields)
    if (field.bits != Bits::kFormer) keys.push_back(field.key);
  return keys;
}

template <class S>
const Field<S>* find_field(const std::vector<Field<S>>& fields, const std::string& key) {
  for (const auto& field : fields)
    if (field.key == key) return &field;
  return nullptr;
}

template <class S>
bool is_section(const std::vector<Field<S>>& fields, const std::string& key) {
  for (const auto& field : fields)
    if (field.key.rfind(key + ".", 0) == 0) return true;
  return false;
}

// Reads the mapping `node` that stands at `prefix` of the table. Keys in `skip` are the caller's.
template <class S>
void read_mapping(const YAML::Node& node, const std::vector<Field<S>>& fields, S& target,
                  const std::string& prefix, const Reading& reading,
                  const std::set<std::string>& skip = {}) {
  for (const auto& [key_node, value] : pairs_of(node, reading.label + prefix, reading)) {
    const std::string key = prefix + key_node.Scalar();
    if (skip.count(key)) continue;
    const std::string where = reading.source.at(key_node);
    Reading inner = reading;
    inner.key_place = where;
    if (const auto* field = find_field(fields, key)) {
      if (reading.places) (*reading.places)[reading.label + key] = where;
      read_value(value, field->limits, field->ref(target), reading.label + key, inner);
    } else if (is_section(fields, key)) {
      read_mapping(value, fields, target, key + ".", inner, skip);
    } else {
      std::vector<std::string> known = keys_below(fields, prefix);
      for (const std::string& own : skip)
        if (!find_field(fields, own)) known.push_back(own);  // the others are in their place
      refuse_unknown_key(where, key_node.Scalar(), known, all_keys(fields), reading.label + prefix);
    }
  }
}

}  // namespace svfleet
