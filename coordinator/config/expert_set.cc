#include "coordinator/config/expert_set.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/reader.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostLetters = 26;

using Reader = std::function<void(const YAML::Node&, const std::string& label, const Reading&)>;

// A mapping whose keys each have a reader.
void read_keys(const YAML::Node& node, const std::string& label, const Reading& reading,
               const std::vector<std::pair<std::string, Reader>>& readers) {
  for (const auto& [key, value] : pairs_of(node, label, reading)) {
    const std::string where = reading.source.at(key), name = key.Scalar();
    const auto found = std::find_if(readers.begin(), readers.end(),
                                    [&](const auto& one) { return one.first == name; });
    if (found == readers.end()) {
      std::vector<std::string> known;
      for (const auto& one : readers) known.push_back(one.first);
      refuse_unknown_key(where, name, known, known, label);
    }
    Reading inner = reading;
    inner.key_place = where;
    found->second(value, label + name, inner);
  }
}

Reader into(Ref ref, const Limits& limits = {}) {
  return [ref, limits](const YAML::Node& node, const std::string& label, const Reading& reading) {
    read_value(node, limits, ref, label, reading);
  };
}

Reader into_path(std::string* path) {
  return [path](const YAML::Node& node, const std::string& label, const Reading& reading) {
    read_value(node, {.required = true, .is_path = true}, path, label, reading);
    if (fs::path(*path).is_relative())
      *path = (fs::path(reading.source.folder()) / *path).lexically_normal().string();
  };
}

// "runs/a/experts/best.safetensors" -> "best".
std::string name_of(const std::string& file) {
  const fs::path path = file;
  return (path.has_filename() ? path : path.parent_path()).stem().string();
}

SetMember read_member(const YAML::Node& node, const std::string& label, const Reading& reading) {
  SetMember member;
  if (node.IsScalar()) {
    into_path (&member.file)(node, label, reading);
  } else {
    read_keys(node, label + ".", reading,
              {{"file", into_path(&member.file)},
               {"label", into(&member.label, {.required = true})},
               {"about", into(&member.about, {.required = true})},
               {"tasks", into(&member.tasks)}});
    if (member.file.empty()) refuse(reading.at(node), label + ".file is missing: name an expert");
  }
  if (member.label.empty()) member.label = name_of(member.file);
  if (member.about.empty()) member.about = member.label;
  if (member.tasks.empty()) member.tasks = {member.label};
  return member;
}

void read_members(const YAML::Node& node, const Reading& reading, ExpertSet* set) {
  if (!node.IsSequence() || node.size() == 0)
    refuse(reading.at(node), "experts must be a list of expert files, got " +
                                 (node.IsSequence() ? "an empty one" : shown(node)));
  std::map<std::string, std::string> labels, files, tasks;
  const auto once = [](std::map<std::string, std::string>& seen, const std::string& key,
                       const std::string& where, const std::string& what, const std::string& mend) {
    const auto [earlier, fresh] = seen.emplace(key, where);
    if (!fresh)
      refuse(where,
             what + " '" + shown(key) + "' is there already, at " + earlier->second + "; " + mend);
  };
  for (size_t i = 0; i < node.size(); ++i) {
    const std::string where = reading.at(node[i]);
    SetMember member = read_member(node[i], "experts." + std::to_string(i), reading);
    if (member.label == kOther)
      refuse(where, "the label 'other' means the base; give the expert another");
    once(files, resolved_path(expert_file(member.file)), where, "the expert", "leave one out");
    once(labels, member.label, where, "the label", "give each expert its own with 'label'");
    for (const std::string& task : member.tasks)
      once(tasks, task, where, "the task", "a task's prompts are one expert's");
    set->members.push_back(std::move(member));
  }
}

void read_question(const YAML::Node& node, const std::string& label, const Reading& reading,
                   DomainQuestion* question) {
  std::string by = "likelihood";
  read_keys(node, label + ".", reading,
            {{"text", into(&question->text, {.required = true})},
             {"prefill", into(&question->prefill)},
             {"by", into(&by, {.names = {"likelihood", "calibrated", "answer"}})},
             {"other", into(&question->other)},
             {"max_new_tokens", into(&question->max_new_tokens, {.low = 1, .high = 1000})}});
  question->by = by == "likelihood"   ? AskBy::kLikelihood
                 : by == "calibrated" ? AskBy::kCalibrated
                                      : AskBy::kAnswer;
  for (const char* field : {"{prompt}", "{choices}"})
    if (question->text.find(field) == std::string::npos)
      refuse(reading.at(node),
             label + ".text does not hold " + field + ", which stands for what the model must see");
}

std::string replaced(std::string text, const std::string& field, const std::string& by) {
  for (size_t at = 0; (at = text.find(field, at)) != text.npos; at += by.size())
    text.replace(at, field.size(), by);
  return text;
}

}  // namespace

std::vector<std::string> ExpertSet::files() const {
  std::vector<std::string> all;
  for (const SetMember& member : members) all.push_back(member.file);
  if (!classifier.empty()) all.push_back(classifier);
  return all;
}

std::vector<std::string> ExpertSet::labels() const {
  std::vector<std::string> all;
  for (const SetMember& member : members) all.push_back(member.label);
  all.push_back(kOther);
  return all;
}

size_t ExpertSet::owner_of(const std::string& task) const {
  for (size_t m = 0; m < members.size(); ++m)
    if (std::count(members[m].tasks.begin(), members[m].tasks.end(), task)) return m;
  return members.size();
}

ExpertSet load_expert_set(const std::string& path) {
  if (is_folder(path))
    throw user_error("--experts '", path, "' is a folder, not a YAML file that lists experts");
  ExpertSet set;
  set.path = path;
  const Reading reading{Source{path, ""}, nullptr, ""};
  const YAML::Node node = parse_yaml(read_file(path), reading.source);
  if (node.IsNull()) refuse(path, "the expert set is empty; list expert files");
  if (node.IsSequence()) {
    read_members(node, reading, &set);
    return set;
  }
  if (!node.IsMap()) refuse(reading.at(node), "an expert set is a list of expert files");
  read_keys(
      node, "", reading,
      {{"experts", [&](const YAML::Node& list, const std::string&,
                       const Reading& inner) { read_members(list, inner, &set); }},
       {"classifier", into_path(&set.classifier)},
       {"question", [&](const YAML::Node& one, const std::string& label, const Reading& inner) {
          read_question(one, label, inner, &set.question);
        }}});
  if (set.members.empty()) refuse(path, "'experts' is missing: list expert files");
  return set;
}

std::vector<std::string> choices_of(const ExpertSet& set) {
  std::vector<std::string> all;
  for (const SetMember& member : set.members) all.push_back(member.about);
  if (!set.question.other.empty()) all.push_back(set.question.other);
  if (all.size() > kMostLetters)
    throw user_error("'", set.path, "' has ", all.size(), " choices, more than the ", kMostLetters,
                     " letters that the model can be asked for; use --strategy few_shot");
  return all;
}

std::vector<std::string> letters_of(const ExpertSet& set) {
  std::vector<std::string> letters;
  for (size_t i = 0; i < choices_of(set).size(); ++i) letters.emplace_back(1, char('A' + i));
  return letters;
}

std::string question_about(const ExpertSet& set, const std::string& prompt) {
  const std::vector<std::string> letters = letters_of(set), abouts = choices_of(set);
  std::string choices, list;
  for (size_t i = 0; i < letters.size(); ++i) {
    choices += (i ? "\n" : "") + letters[i] + ". " + abouts[i];
    list += (i == 0 ? "" : i + 1 == letters.size() ? " or " : ", ") + letters[i];
  }
  // The prompt last: what it holds in braces is its own.
  return replaced(replaced(replaced(set.question.text, "{choices}", choices), "{letters}", list),
                  "{prompt}", prompt);
}

}  // namespace svfleet
