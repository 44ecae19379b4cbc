#include "coordinator/config/reader.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <sstream>

#include "comm/error.h"
#include "coordinator/config/utf8.h"
#include "rl/control_chars.h"
#include "rl/nearest.h"

namespace svfleet {

std::string Source::at(const YAML::Node& node) const {
  if (!override_text.empty()) return "--set " + shown(override_text);
  const int line = node.Mark().line;
  return line < 0 ? file : file + ":" + std::to_string(line + 1);
}

std::string Source::folder() const {
  if (!override_text.empty()) return "";
  return std::filesystem::path(file).parent_path().string();
}

void refuse(const std::string& where, const std::string& message) {
  throw user_error(where, ": ", message);
}

std::string shown(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  constexpr size_t kLongest = 120;
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string shown(const YAML::Node& node) {
  if (node.IsScalar()) return "'" + shown(node.Scalar()) + "'";
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a mapping";
  return "nothing";
}

namespace {

// Where each document starts; what is in them does not matter.
struct DocumentStarts : YAML::EventHandler {
  std::vector<YAML::Mark> starts;
  void OnDocumentStart(const YAML::Mark& mark) override { starts.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// YAML::Load takes the first document and is silent about what follows, and YAML::LoadAll makes
// documents without end of a stray comma or bracket: so look for the start of a second one.
void refuse_second_document(const std::string& text, const Source& source) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  DocumentStarts documents;
  while (documents.starts.size() < 2 && parser.HandleNextDocument(documents)) continue;
  if (documents.starts.size() < 2) return;
  const int number = documents.starts[1].line;
  std::istringstream lines(text);
  std::string line;
  for (int i = 0; i <= number; ++i) std::getline(lines, line);
  const std::string where =
      source.override_text.empty() ? source.file + ":" + std::to_string(number + 1) : source.at({});
  refuse(where, line.rfind("---", 0) == 0
                    ? "a second YAML document; one file holds one configuration"
                    : "not valid YAML: '" + shown(line) + "' does not belong to what is before it");
}

// YAML-cpp puts U+FFFD where it is not, which nobody has written.
void refuse_other_encoding(const std::string& text, const Source& source) {
  const size_t at = not_utf8_at(text);
  if (at == text.npos) return;
  const auto line = std::count(text.begin(), text.begin() + std::ptrdiff_t(at), '\n') + 1;
  refuse(source.file + ":" + std::to_string(line),
         "not valid UTF-8; write the file in UTF-8 (iconv -f latin1 -t UTF-8, if it is Latin-1)");
}

// Many editors make a tab of what looks like blanks.
std::string tab_hint(const std::string& text, int number) {
  std::istringstream lines(text);
  std::string line;
  for (int i = 0; i <= number && std::getline(lines, line); ++i) continue;
  return line.substr(0, line.find_first_not_of(" \t")).find('\t') == line.npos
             ? ""
             : " (a tab stands before the text; YAML wants blanks)";
}

}  // namespace

YAML::Node parse_yaml(const std::string& text, const Source& source) {
  if (source.override_text.empty()) refuse_other_encoding(text, source);
  try {
    refuse_second_document(text, source);
    return YAML::Load(text);
  } catch (const YAML::Exception& e) {
    const std::string where = !source.override_text.empty()
                                  ? source.at({})
                                  : source.file + ":" + std::to_string(e.mark.line + 1);
    refuse(where, "not valid YAML: " + shown(e.msg) + tab_hint(text, e.mark.line));
  }
}

namespace {

std::string last_part(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

}  // namespace

void refuse_unknown_key(const std::string& where, const std::string& key,
                        const std::vector<std::string>& known, const std::vector<std::string>& all,
                        const std::string& label) {
  const std::string unknown = "unknown key '" + shown(key) + "'";
  if (key == "<<" || key.ends_with(".<<"))
    refuse(where, unknown + ": YAML's merge key is not supported; write the settings out");
  const std::string name = last_part(key);
  if ((label == "train." || key.rfind("train.", 0) == 0) &&
      (name == "top_k" || name == "top_p" || name == "min_p"))
    refuse(where, unknown +
                      ": training samples are untruncated, so that their probabilities are "
                      "those of the policy; " +
                      name + " exists only under evaluate");
  const bool in_config =
      label.empty() && std::find(known.begin(), known.end(), "task") != known.end();
  if (in_config &&
      (key == "reward" || is_section(task_fields(), key) || find_field(task_fields(), key)))
    refuse(where,
           unknown + ", which belongs to a task: write it under task, or name the task file there");
  // The right name in the wrong place is nearer than any other name.
  for (const auto& candidate : all)
    if (candidate != key && last_part(candidate) == name &&
        candidate.find('.') != std::string::npos)
      refuse(where, unknown + ", did you mean '" + candidate + "'?");
  if (const std::string near = nearest(key, known); !near.empty())
    refuse(where, unknown + ", did you mean '" + near + "'?");
  std::string list;
  for (const auto& candidate : known) list += (list.empty() ? "" : ", ") + candidate;
  const std::string place = label.empty() ? "" : " under " + label.substr(0, label.size() - 1);
  refuse(where, unknown + place + "; known: " + list);
}

std::vector<std::pair<YAML::Node, YAML::Node>> pairs_of(const YAML::Node& node,
                                                        const std::string& label,
                                                        const Reading& reading) {
  const std::string name = label.empty() ? "the configuration" : label.substr(0, label.size() - 1);
  if (!node.IsMap())
    refuse(reading.at(node), name + " must be a mapping of keys and values, got " + shown(node));
  std::vector<std::pair<YAML::Node, YAML::Node>> pairs;
  std::map<std::string, std::string> seen;
  for (const auto& pair : node) {
    const std::string where = reading.at(pair.first);
    if (!pair.first.IsScalar())
      refuse(where, "a key of " + name + " must be a text, got " + shown(pair.first));
    const auto [earlier, fresh] = seen.emplace(pair.first.Scalar(), where);
    if (!fresh)
      refuse(where, "duplicate key '" + shown(pair.first.Scalar()) + "', already given at " +
                        earlier->second);
    pairs.emplace_back(pair.first, pair.second);
  }
  return pairs;
}

namespace {

struct ValueReader {
  const YAML::Node& node;
  const Limits& limits;
  const std::string& label;
  const Reading& reading;

  [[noreturn]] void wrong(const std::string& expected) const {
    refuse(reading.at(node), label + " must be " + expected + ", got " + shown(node));
  }
  [[noreturn]] void wrong_value(const std::string& expected, const std::string& got) const {
    refuse(reading.at(node), label + " must be " + expected + ", got " + got);
  }
  const std::string& scalar(const char* expected) const {
    if (!node.IsScalar()) wrong(expected);
    return node.Scalar();
  }
  const std::string& readable(const YAML::Node& item) const {
    const std::string problem = control_problem(item.Scalar(), WrittenIn::kYaml);
    if (!problem.empty()) refuse(reading.at(item), label + " " + problem);
    return item.Scalar();
  }
  void check_range(double value, const std::string& text) const {
    const bool low = limits.above_low ? value > limits.low : value >= limits.low;
    const bool high = limits.below_high ? value < limits.high : value <= limits.high;
    if (!low || !high) wrong_value(limits_text(limits), shown(text));
  }
  size_t name_index(const YAML::Node& item) const {
    for (size_t i = 0; i < limits.names.size(); ++i)
      if (item.IsScalar() && item.Scalar() == limits.names[i]) return i;
    refuse(reading.at(item), label + " must be " + limits_text(limits) + ", got " + shown(item));
  }
  template <class Int>
  void read_integer(Int* value) const {
    const std::string& text = scalar("a whole number");
    Int parsed = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (end != text.data() + text.size() || text.empty()) wrong("a whole number");
    if (code == std::errc::result_out_of_range) {
      std::string got =
          shown(text) + ", which is too " + (text[0] == '-' ? "small" : "large") + " a number";
      if (text[0] != '-' && std::isinf(limits.high))
        got += ": the largest that is read is " + std::to_string(std::numeric_limits<Int>::max());
      wrong_value(limits_text(limits), got);
    }
    if (code != std::errc()) wrong("a whole number");
    check_range(static_cast<double>(parsed), text);
    *value = parsed;
  }

  void operator()(std::string* value) const {
    const std::string& text = scalar("a text");
    if (!limits.names.empty()) name_index(node);
    if (limits.required && text.empty()) wrong("given");
    if (limits.is_path && text.starts_with('~'))
      refuse(reading.at(node), label +
                                   " begins with '~', which only a shell replaces; write out "
                                   "the home folder, or ./~ for a folder of that name");
    if (limits.is_path && is_variable(text))
      refuse(reading.at(node), label + " begins with '" + shown(text.substr(0, text.find('/'))) +
                                   "', which only a shell replaces; write it out, or ./$... for a "
                                   "folder of that name");
    *value = readable(node);
  }
  // $HOME, ${SCRATCH}
  static bool is_variable(const std::string& text) {
    return text.size() > 1 && text[0] == '$' &&
           (text[1] == '{' || text[1] == '_' || std::isalpha(static_cast<unsigned char>(text[1])));
  }
  void operator()(OptionalText value) const {
    scalar("a text");
    *value.text = readable(node);
    *value.present = true;
  }
  void operator()(int64_t* value) const { read_integer(value); }
  void operator()(int* value) const { read_integer(value); }
  void operator()(double* value) const {
    const std::string& text = scalar("a number");
    double parsed = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (text.empty() || end != text.data() + text.size() || code != std::errc() ||
        !std::isfinite(parsed))
      wrong("a number");
    check_range(parsed, text);
    *value = parsed;
  }
  void operator()(bool* value) const {
    const std::string& text = scalar("true or false");
    // As YAML 1.2 spells them.
    const bool is_true = text == "true" || text == "True" || text == "TRUE";
    if (!is_true && text != "false" && text != "False" && text != "FALSE") wrong("true or false");
    *value = is_true;
  }
  void operator()(std::vector<std::string>* value) const {
    std::vector<std::string> items;
    const auto add = [&](const YAML::Node& item) {
      if (!limits.names.empty()) name_index(item);
      if (!item.IsScalar())
        refuse(reading.at(item), label + " must be a list of texts, got " + shown(item) + " in it");
      items.push_back(readable(item));
    };
    if (node.IsScalar()) {
      add(node);
    } else if (node.IsSequence()) {
      for (const auto& item : node) add(item);
    } else {
      wrong("a list of texts");
    }
    if (items.empty() && !limits.names.empty()) wrong("a list of at least one text");
    *value = items;
  }
  void operator()(TruncatedRule* value) const {
    *value = static_cast<TruncatedRule>(name_index(node));
  }
  void operator()(RewardKind* value) const { *value = static_cast<RewardKind>(name_index(node)); }
  void operator()(std::vector<RewardSpec>* value) const { read_rewards(node, *value, inside()); }
  void operator()(std::vector<TaskSpec>* value) const { read_tasks(node, *value, inside()); }
  // They need all of the rest first: read_experts().
  void operator()(std::vector<ExpertConfig>*) const {
    refuse(reading.at(node),
           label + " is a list; set one of its keys, such as " + label + ".NAME.train.seed");
  }

  Reading inside() const {
    Reading inner = reading;
    inner.label = label + ".";
    return inner;
  }
};

}  // namespace

void read_value(const YAML::Node& node, const Limits& limits, Ref ref, const std::string& label,
                const Reading& reading) {
  std::visit(ValueReader{node, limits, label, reading}, ref);
}

YAML::Node override_node(const Ref& ref, const std::string& text, const Source& source) {
  const bool is_list = std::holds_alternative<std::vector<std::string>*>(ref);
  const bool is_structure = std::holds_alternative<std::vector<RewardSpec>*>(ref) ||
                            std::holds_alternative<std::vector<TaskSpec>*>(ref);
  const bool written_as_yaml = !text.empty() && (text[0] == '[' || text[0] == '{');
  if ((is_list || is_structure) && written_as_yaml) return parse_yaml(text, source);
  if (!is_list) return YAML::Node(text);
  YAML::Node list(YAML::NodeType::Sequence);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    list.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

}  // namespace svfleet
