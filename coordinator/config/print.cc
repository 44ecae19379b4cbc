// What the tables look like as commented YAML, as the reference page and as canonical JSON.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "coordinator/config/fields.h"

namespace svfleet {
namespace {

std::string json_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Plain where no YAML reader could take it for anything else.
std::string yaml_text(const std::string& text) {
  const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
                     text.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") ==
                         std::string::npos;
  for (const char* word : {"null", "Null", "NULL", "true", "false", "yes", "no", "on", "off", "y"})
    if (text == word) return json_text(text);
  return plain ? text : json_text(text);
}

enum class Style { kYaml, kJson };

// A value on one line, in YAML or in JSON.
struct ValueWriter {
  const Limits& limits;
  Style style;

  std::string text(const std::string& value) const {
    return style == Style::kJson ? json_text(value) : yaml_text(value);
  }
  std::string operator()(std::string* value) const { return text(*value); }
  std::string operator()(int64_t* value) const { return std::to_string(*value); }
  std::string operator()(int* value) const { return std::to_string(*value); }
  std::string operator()(double* value) const { return number_text(*value); }
  std::string operator()(bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(std::vector<std::string>* value) const {
    std::string list;
    for (const auto& item : *value) {
      // Inside brackets a plain text may not hold what a flow list would stop at: quote all but
      // the names that we chose ourselves.
      const bool own_name = style == Style::kYaml && !limits.names.empty();
      list += (list.empty() ? "" : ", ") + (own_name ? item : json_text(item));
    }
    return "[" + list + "]";
  }
  std::string operator()(TruncatedRule* value) const {
    return text(limits.names.at(static_cast<size_t>(*value)));
  }
  std::string operator()(RewardKind* value) const {
    return text(limits.names.at(static_cast<size_t>(*value)));
  }
  std::string operator()(OptionalText value) const {
    return *value.present ? text(*value.text) : "null";
  }
  std::string operator()(std::vector<RewardSpec>* value) const {
    std::string list;
    for (auto& reward : *value) {
      std::string one;
      for (const auto& field : reward_fields()) {
        const std::string key = style == Style::kJson ? json_text(field.key) : field.key;
        one += (one.empty() ? "" : ", ") + key + ": " +
               std::visit(ValueWriter{field.limits, Style::kJson}, field.ref(reward));
      }
      list += (list.empty() ? "{" : ", {") + one + "}";
    }
    return "[" + list + "]";
  }
  std::string operator()(std::vector<TaskSpec>*) const { return ""; }
  std::string operator()(std::vector<ExpertConfig>*) const { return ""; }
};

template <class S>
std::string value_text(const Field<S>& field, S& owner, Style style) {
  return std::visit(ValueWriter{field.limits, style}, field.ref(owner));
}

void write_comment(std::string& out, const std::string& indent, const std::string& text) {
  constexpr size_t kWidth = 98;
  std::string line;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && indent.size() + 2 + line.size() + 1 + word.size() > kWidth) {
      out += indent + "# " + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  if (!line.empty()) out += indent + "# " + line + "\n";
}

template <class S>
std::string full_comment(const Field<S>& field) {
  const std::string limits = limits_text(field.limits);
  std::string text = field.comment;
  if (!limits.empty()) {
    text.pop_back();
    text += " (" + limits + ").";
  }
  return text;
}

// `first` starts the first line instead of the indent ("- " of a list entry).
template <class S>
void write_mapping(std::string& out, const std::vector<Field<S>>& fields, S& owner,
                   const std::string& indent, bool comments);

void write_tasks(std::string& out, std::vector<TaskSpec>& tasks, const std::string& indent) {
  if (tasks.size() == 1) {
    out += indent + "task:\n";
    write_mapping(out, task_fields(), tasks[0], indent + "  ", true);
    return;
  }
  out += indent + "task:\n";
  for (size_t i = 0; i < tasks.size(); ++i) {
    out += indent + "  -\n";
    write_mapping(out, task_fields(), tasks[i], indent + "    ", i == 0);
  }
}

// The experts of a run: only what may be another in each.
void write_experts(std::string& out, Config& config) {
  out += "experts:\n";
  for (ExpertConfig& expert : config.experts) {
    Config own = config;
    own.train = expert.train;
    out += "  -\n    name: " + expert.name + "\n";
    write_tasks(out, expert.tasks, "    ");
    out += "    train:\n";
    for (const auto& field : config_fields())
      if (field.key.starts_with("train.") && field.bits != Bits::kFormer)
        out += "      " + field.key.substr(6) + ": " + value_text(field, own, Style::kYaml) + "\n";
  }
}

template <class S>
void write_mapping(std::string& out, const std::vector<Field<S>>& fields, S& owner,
                   const std::string& indent, bool comments) {
  std::string section;  // that is open: "", "model." or "model.chat_format."
  for (const auto& field : fields) {
    if (field.bits == Bits::kFormer) continue;
    if constexpr (std::is_same_v<S, Config>)
      if (field.key == (owner.experts.empty() ? "experts" : "task")) continue;
    const size_t last = field.key.rfind('.') + 1;  // npos + 1 is 0
    while (!field.key.starts_with(section))
      section.resize(section.rfind('.', section.size() - 2) + 1);
    const auto depth = [&] { return std::count(section.begin(), section.end(), '.'); };
    while (section.size() < last) {
      const std::string its = indent + std::string(2 * depth(), ' ');
      const size_t dot = field.key.find('.', section.size());
      const std::string name = field.key.substr(section.size(), dot - section.size());
      if (its.empty()) out += "\n";
      if (comments) write_comment(out, its, section_comment(name));
      out += its + name + ":\n";
      section = field.key.substr(0, dot + 1);
    }
    const std::string inner = indent + std::string(2 * depth(), ' ');
    const std::string name = field.key.substr(last);
    if (section.empty() && indent.empty()) out += "\n";
    if (comments) write_comment(out, inner, full_comment(field));
    const Ref ref = field.ref(owner);
    if (auto* tasks = std::get_if<std::vector<TaskSpec>*>(&ref)) {
      write_tasks(out, **tasks, inner);
      continue;
    }
    if constexpr (std::is_same_v<S, Config>)
      if (field.key == "experts") {
        write_experts(out, owner);
        continue;
      }
    const auto* optional = std::get_if<OptionalText>(&ref);
    const bool absent = optional && !*optional->present;
    out +=
        inner +
        (absent ? "# " + name + ": \"\"" : name + ": " + value_text(field, owner, Style::kYaml)) +
        "\n";
  }
}

std::string bits_text(Bits bits) {
  switch (bits) {
    case Bits::kNo:
      return "no";
    case Bits::kYes:
    case Bits::kUnlessDefault:
      return "yes";
    case Bits::kByContent:
      return "by content";
    case Bits::kUnlessConstant:
      return "with cosine";
    case Bits::kFormer:
      break;
  }
  return "";
}

// A cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

template <class S>
void write_rows(std::string& out, const std::vector<Field<S>>& fields, S& defaults,
                const std::string& prefix) {
  out += "| key | value | default | alters the result | what it is |\n|---|---|---|---|---|\n";
  for (const auto& field : fields) {
    const bool inside = field.key.find('.') != std::string::npos;
    if (prefix.empty() ? false : prefix == "." ? inside : field.key.rfind(prefix, 0) != 0) continue;
    if (field.bits == Bits::kFormer) continue;
    const Ref ref = field.ref(defaults);
    std::string value = limits_text(field.limits);
    if (field.limits.names.empty())
      value = type_text(ref) + (value.empty() ? "" : ", " + value);
    else if (std::holds_alternative<std::vector<std::string>*>(ref))
      value = "a list of " + value.substr(7);
    const auto* optional = std::get_if<OptionalText>(&ref);
    const bool is_list = std::holds_alternative<std::vector<ExpertConfig>*>(ref);
    std::string initial = field.limits.required ? "required"
                          : optional || is_list
                              ? "absent"
                              : "`" + value_text(field, defaults, Style::kYaml) + "`";
    out += "| `" + field.key + "` | " + cell(value) + " | " + cell(initial) + " | " +
           bits_text(field.bits) + " | " + cell(field.comment) + " |\n";
  }
  out += "\n";
}

template <class S>
void collect_bits(std::map<std::string, std::string>& json, const std::vector<Field<S>>& fields,
                  S& owner, const std::string& prefix, bool steps_matter, bool all) {
  S defaults;
  for (const auto& field : fields) {
    const Ref ref = field.ref(owner);
    if (std::holds_alternative<std::vector<TaskSpec>*>(ref) ||
        std::holds_alternative<std::vector<ExpertConfig>*>(ref))
      continue;
    const std::string value = value_text(field, owner, Style::kJson);
    const bool in = field.bits == Bits::kYes ||
                    (field.bits == Bits::kUnlessConstant && (steps_matter || all)) ||
                    (field.bits == Bits::kUnlessDefault &&
                     (all || value != value_text(field, defaults, Style::kJson)));
    if (in) json[prefix + field.key] = value;
  }
}

}  // namespace

std::string print_config(const Config& config) {
  Config copy = config;  // the table hands out addresses of a Config that it could write to
  std::string out = "# The effective configuration of svfleet. docs/config.md explains each key.\n";
  write_mapping(out, config_fields(), copy, "", true);
  return out;
}

std::string config_reference() {
  Config defaults;
  TaskSpec task;
  RewardSpec reward;
  std::string out = R"(# Configuration

<!-- Generated by `svfleet config --reference`; a test compares this page with the program. -->

Every command reads one YAML file and any number of `--set key=value` overrides, such as
`--set train.steps=5`, `--set svd.targets=q_proj,v_proj` or `--set task.reward=random`.
`svfleet config FILE` prints the effective configuration with its comments. An unknown key, a wrong
type or a value out of range is refused with its line, and the exit code is 2.

A relative path is relative to the working directory, wherever it is written: in this file, in `--set`,
on the command line. Only a task file names its data beside itself, so that task and data move together.

*Alters the result* says whether a run may be resumed after the setting was changed. `yes`: it may
alter the bits of the trained expert, so a run keeps it; `by content`: the path may change but the
content is hashed and must stay; `with cosine`: a run with a constant schedule may be extended;
`no`: free to change. Checkpoints and validation observe a run without touching it: validation
chooses which step is called the best, and may end a run early, but alters no step.

## Top level

)";
  write_rows(out, config_fields(), defaults, ".");
  for (const char* section : {"model", "svd", "train", "evaluate"}) {
    out += "## " + std::string(section) + "\n\n" + section_comment(section) + "\n\n";
    write_rows(out, config_fields(), defaults, std::string(section) + ".");
  }
  out += R"(## task

A task is a YAML file of its own, named by `task: PATH`, or the same keys written below `task:`.
A list holds several, mixed by `weight`; `{file: PATH, weight: 2}` is a task file with changes.
`--set task.max_new_tokens=32` changes the only task, `--set task.1.weight=2` the second of several.

)";
  write_rows(out, task_fields(), task, "");
  out += R"(## task.rewards

One reward or a list of them; `reward: last_number` is short for `rewards: [{kind: last_number}]`.
`--set task.rewards.0.weight=9` changes one setting of the first.

)";
  write_rows(out, reward_fields(), reward, "");
  out.pop_back();
  return out;
}

namespace {

std::string canonical(const Config& config, bool all) {
  Config copy = config;
  std::map<std::string, std::string> json;
  const bool steps_matter = config.train.schedule != "constant";
  collect_bits(json, config_fields(), copy, "", steps_matter, all);
  for (size_t i = 0; i < copy.tasks.size(); ++i)
    collect_bits(json, task_fields(), copy.tasks[i], "task." + std::to_string(i) + ".", true, all);
  std::string out;
  for (const auto& [key, value] : json)
    out += (out.empty() ? "{" : ",") + json_text(key) + ":" + value;
  return out + "}";
}

}  // namespace

bool alike(const Ref& a, const Ref& b) {
  const Limits any;
  const auto text = [&](const Ref& ref) {
    if (const auto* one = std::get_if<TruncatedRule*>(&ref)) return std::to_string(int(**one));
    return std::visit(ValueWriter{any, Style::kJson}, ref);
  };
  return a.index() == b.index() && text(a) == text(b);
}

bool alike(TaskSpec a, TaskSpec b) {
  return std::all_of(task_fields().begin(), task_fields().end(),
                     [&](const auto& field) { return alike(field.ref(a), field.ref(b)); });
}

std::string bits_config(const Config& config) {
  return canonical(config, false);
}

std::string all_bits_config(const Config& config) {
  return canonical(config, true);
}

}  // namespace svfleet
