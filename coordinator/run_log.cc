#include "coordinator/run_log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <set>
#include <tuple>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/progress.h"

namespace svfleet {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kLog[] = "log.jsonl";
constexpr char kRollouts[] = "rollouts.jsonl";

std::string path_of(const std::string& run_dir, const std::string& file) {
  return (std::filesystem::path(run_dir) / file).string();
}

std::string utc_now() {
  using std::chrono::system_clock;
  const auto now = system_clock::now();
  const std::time_t seconds = system_clock::to_time_t(now);
  const auto fraction = std::chrono::duration_cast<std::chrono::milliseconds>(
                            now - system_clock::from_time_t(seconds)) %
                        1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40], whole[48];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(fraction.count()));
  return whole;
}

// All whole lines of the file that are objects; "attempt" and "step" are numbers where present.
LogRecords read_lines(const std::string& run_dir, const std::string& file) {
  LogRecords result;
  const std::string path = path_of(run_dir, file);
  if (!file_exists(path)) return result;
  const std::string text = read_file(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // torn, or being written
    ++number;
    json record = json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                              text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    begin = end + 1;
    const auto is_number = [&](const char* key) {
      return !record.contains(key) || record[key].is_number_integer();
    };
    if (!record.is_object() || !is_number("step") || !is_number("attempt"))
      result.ignored.push_back(file + ":" + std::to_string(number) + ": not a record, left out");
    else
      result.records.push_back(std::move(record));
  }
  return result;
}

std::string text_at(const json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

// Where a record stands on the screen: above the progress line.
class ScreenSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    std::string_view text(buffer.data(), buffer.size());
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    print_line(text);
  }
  void flush_() override {}
};

}  // namespace

RunLog::RunLog(std::string run_dir) : run_dir_(std::move(run_dir)) {
  make_folder(run_dir_);
  for (const char* file : {kLog, kRollouts})
    for (const auto& record : read_lines(run_dir_, file).records)
      if (record.contains("step") && record.contains("attempt")) {
        int& last = attempts_before_[record["step"].get<int64_t>()];
        last = std::max(last, record["attempt"].get<int>());
      }
}

int RunLog::attempt(int64_t step) const {
  const auto found = attempts_before_.find(step);
  return found == attempts_before_.end() ? 1 : found->second + 1;
}

void RunLog::write(const std::string& file, const std::string& kind, ordered_json head,
                   const ordered_json& fields) {
  ordered_json record;
  record["kind"] = kind;
  record["time"] = utc_now();
  record.update(head);
  for (const auto& [key, value] : fields.items()) {
    SVFLEET_CHECK(!record.contains(key), "the log's own key ", key);
    record[key] = value;
  }
  // A reply may hold half a character.
  const std::string line = record.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  const std::lock_guard lock(mutex_);
  append_line(path_of(run_dir_, file), line);
}

void RunLog::step(int64_t step, const ordered_json& fields) {
  write(kLog, "step", {{"step", step}, {"attempt", attempt(step)}}, fields);
}

void RunLog::evaluation(int64_t step, const std::string& name, const ordered_json& fields) {
  write(kLog, "evaluation", {{"step", step}, {"attempt", attempt(step)}, {"name", name}}, fields);
}

void RunLog::event(const std::string& name, const ordered_json& fields) {
  write(kLog, "event", {{"name", name}}, fields);
}

void RunLog::rollout(int64_t step, const ordered_json& fields) {
  write(kRollouts, "rollout", {{"step", step}, {"attempt", attempt(step)}}, fields);
}

LogRecords read_log(const std::string& run_dir) {
  LogRecords lines = read_lines(run_dir, kLog), result;
  result.ignored = std::move(lines.ignored);
  std::set<std::tuple<std::string, int64_t, std::string>> seen;
  for (auto line = lines.records.rbegin(); line != lines.records.rend(); ++line) {
    const std::string kind = text_at(*line, "kind");
    const bool superseded = kind != "event" && line->contains("step") &&
                            !seen.emplace(kind, (*line)["step"], text_at(*line, "name")).second;
    if (!superseded) result.records.push_back(std::move(*line));
  }
  std::reverse(result.records.begin(), result.records.end());
  return result;
}

LogRecords read_rollouts(const std::string& run_dir) {
  LogRecords lines = read_lines(run_dir, kRollouts), result;
  result.ignored = std::move(lines.ignored);
  std::map<int64_t, int64_t> last;
  const auto attempt = [](const json& record) { return record.value("attempt", int64_t{1}); };
  const auto step = [](const json& record) { return record.value("step", int64_t{0}); };
  for (const auto& line : lines.records)
    last[step(line)] = std::max(last[step(line)], attempt(line));
  for (auto& line : lines.records)
    if (attempt(line) == last[step(line)]) result.records.push_back(std::move(line));
  return result;
}

std::pair<double, double> longest_chunk_and_save_s(const std::string& run_dir) {
  double chunk = 0, save = 0;
  for (const json& record : read_log(run_dir).records) {
    if (text_at(record, "kind") != "step" || !record.contains("seconds")) continue;
    chunk = std::max(chunk, record.value("longest_chunk_s", 0.0));
    save = std::max(save, record["seconds"].value("save", 0.0));
  }
  return {chunk, save};
}

void open_messages(const std::string& run_dir, int rank) {
  auto screen = std::make_shared<ScreenSink>();
  std::vector<spdlog::sink_ptr> sinks = {screen};
  if (rank != 0) {
    screen->set_level(spdlog::level::warn);
    screen->set_pattern("%H:%M:%S rank " + std::to_string(rank) + " %l: %v");
  } else {
    screen->set_pattern("%H:%M:%S %v");
    if (!run_dir.empty()) {
      make_folder(run_dir);
      try {
        auto file =
            std::make_shared<spdlog::sinks::basic_file_sink_mt>(path_of(run_dir, "svfleet.log"));
        file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
        sinks.push_back(file);
      } catch (const spdlog::spdlog_ex& e) {
        const std::string text = e.what();  // the reason comes last
        const size_t colon = text.rfind(": ");
        throw user_error("cannot write '", path_of(run_dir, "svfleet.log"),
                         "': ", colon == text.npos ? text : text.substr(colon + 2),
                         "; make its folder writable or choose another run_dir");
      }
    }
  }
  auto logger = std::make_shared<spdlog::logger>("svfleet", sinks.begin(), sinks.end());
  logger->flush_on(spdlog::level::info);
  // A full disk must not fill the screen, nor stop a run whose results are safe.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
}

}  // namespace svfleet
