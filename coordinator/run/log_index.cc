#include "coordinator/run/log_index.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>

#include "checkpoints/file.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr const char* kFiles[] = {"log.jsonl", "rollouts.jsonl", "z.jsonl"};

std::string path_of(const std::string& run_dir, const char* file) {
  return (std::filesystem::path(run_dir) / file).string();
}

// Reads one line without building it.
class Line : public nlohmann::json_sax<json> {
 public:
  enum class Until { kStepIsKnown, kEnd };
  // The head of our own lines has kind, step and attempt: a text of a megabyte is not read for
  // them.
  Line(std::string_view text, Until until) : until_(until) {
    const bool whole = json::sax_parse(text.begin(), text.end(), this);
    is_record = object_ && !wrong_type_ && (whole || knows_step());
  }

  bool is_record = false;
  std::string kind, expert;
  std::optional<int64_t> step, attempt;
  double longest_chunk_s = 0, longest_held_s = 0, save_s = 0;

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t value) override { return whole(value); }
  bool number_unsigned(number_unsigned_t value) override { return whole(int64_t(value)); }
  bool number_float(number_float_t value, const string_t&) override {
    return other() && number(value);
  }
  bool string(string_t& value) override {
    if (is_at("kind")) kind = value;
    if (is_at("expert")) expert = value;
    return other();
  }
  bool binary(binary_t&) override { return other(); }
  bool key(string_t& name) override {
    if (depth_ <= 2) keys_[depth_ - 1] = name;
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == 0) object_ = true;
    return open();
  }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  bool is_at(std::string_view name) const { return depth_ == 1 && keys_[0] == name; }
  bool knows_step() const { return until_ == Until::kStepIsKnown && step && attempt; }
  bool open() {
    const bool fine = other();
    ++depth_;
    return fine;
  }
  // Steps and attempts are whole numbers.
  bool other() {
    if (is_at("step") || is_at("attempt")) wrong_type_ = true;
    return !wrong_type_;
  }
  bool whole(int64_t value) {
    if (is_at("step")) step = value;
    if (is_at("attempt")) attempt = value;
    return number(double(value)) && !knows_step();
  }
  bool number(double value) {
    if (is_at("longest_chunk_s")) longest_chunk_s = value;
    if (is_at("longest_held_s")) longest_held_s = value;
    if (depth_ == 2 && keys_[0] == "seconds" && keys_[1] == "save") save_s = value;
    return true;
  }

  const Until until_;
  int depth_ = 0;
  bool object_ = false, wrong_type_ = false;
  std::string keys_[2];
};

void note_longest(const Line& line, LongestTimes& longest) {
  if (line.kind != "step") return;
  longest.chunk_s = std::max(longest.chunk_s, line.longest_chunk_s);
  longest.held_s = std::max(longest.held_s, line.longest_held_s);
  longest.save_s = std::max(longest.save_s, line.save_s);
}

}  // namespace

LongestTimes longest_times(const std::string& run_dir) {
  LongestTimes longest;
  read_lines(path_of(run_dir, kFiles[0]), [&](std::string_view text) {
    if (const Line line(text, Line::Until::kEnd); line.is_record) note_longest(line, longest);
  });
  return longest;
}

LogIndex index_logs(const std::string& run_dir) {
  LogIndex index;
  for (const char* file : kFiles) {
    const bool is_log = file == kFiles[0];
    read_lines(path_of(run_dir, file), [&](std::string_view text) {
      const Line line(text, is_log ? Line::Until::kEnd : Line::Until::kStepIsKnown);
      if (!line.is_record) return;
      if (is_log) note_longest(line, index.longest);
      if (!line.step || !line.attempt) return;
      int& last = index.attempts[*line.step];
      last = std::max(last, int(*line.attempt));
    });
  }
  return index;
}

namespace {

// Lines of an expert's evaluations.
struct Evaluations {
  std::string last;
  std::map<int64_t, std::string> by_step;

  LastEvaluations told() const {
    LastEvaluations told{json::parse(last), json()};
    const auto best = told.evaluation.find("best_step");
    if (best == told.evaluation.end() || !best->is_number_integer()) return told;
    if (const auto found = by_step.find(best->get<int64_t>()); found != by_step.end())
      told.best = json::parse(found->second);
    return told;
  }
};

struct StepLine {
  int64_t step = 0;
  std::string expert, text;
};

}  // namespace

LastRecords last_records(const std::string& run_dir, size_t steps) {
  std::deque<StepLine> kept;
  std::map<std::string, Evaluations> evaluations;  // by expert
  read_lines(path_of(run_dir, kFiles[0]), [&](std::string_view text) {
    const Line line(text, Line::Until::kEnd);
    if (line.is_record && line.kind == "evaluation") {
      Evaluations& of = evaluations[line.expert];
      of.last = text;
      if (line.step) of.by_step[*line.step] = text;
    }
    if (!line.is_record || line.kind != "step" || !line.step) return;
    std::erase_if(kept, [&](const StepLine& one) {
      return one.step == *line.step && one.expert == line.expert;
    });
    kept.push_back({*line.step, line.expert, std::string(text)});
    std::set<int64_t> different;
    for (const StepLine& one : kept) different.insert(one.step);
    if (different.size() > steps) {
      const int64_t first = kept.front().step;
      std::erase_if(kept, [&](const StepLine& one) { return one.step == first; });
    }
  });
  LastRecords last;
  for (const StepLine& one : kept) last.steps.push_back(json::parse(one.text));
  for (const auto& [expert, lines] : evaluations)
    if (expert.empty())
      static_cast<LastEvaluations&>(last) = lines.told();
    else
      last.experts[expert] = lines.told();
  return last;
}

std::vector<std::string> broken_lines(const std::string& run_dir) {
  std::vector<std::string> broken;
  for (const char* file : kFiles) {
    int64_t number = 0;
    read_lines(path_of(run_dir, file), [&](std::string_view text) {
      ++number;
      if (!Line(text, Line::Until::kEnd).is_record)
        broken.push_back(std::string(file) + ":" + std::to_string(number) +
                         ": not a record, left out");
    });
  }
  return broken;
}

}  // namespace svfleet
