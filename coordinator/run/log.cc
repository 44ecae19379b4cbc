#include "coordinator/run/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <filesystem>

#include "checkpoints/file.h"
#include "checkpoints/own_lines.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/run/json_line.h"
#include "coordinator/run/progress.h"

namespace svfleet {
namespace {

using nlohmann::ordered_json;

constexpr char kLog[] = "log.jsonl";
constexpr char kRollouts[] = "rollouts.jsonl";
constexpr char kZ[] = "z.jsonl";
constexpr int64_t kStepsPerZ = 10;

std::string path_in(const std::string& run_dir, const std::string& file) {
  return (std::filesystem::path(run_dir) / file).string();
}

std::string utc_now() {  // to the millisecond
  const double now = wall_clock_s();
  char text[16];
  std::snprintf(text, sizeof text, ".%03dZ", int(1000 * (now - std::floor(now))));
  return utc(now, "%Y-%m-%dT%H:%M:%S") + text;
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

RunLog::RunLog(std::string run_dir) : run_dir_(std::move(run_dir)), before_(index_logs(run_dir_)) {
  make_folder(run_dir_);
}

int RunLog::attempt(int64_t step) const {
  const auto found = before_.attempts.find(step);
  return found == before_.attempts.end() ? 1 : found->second + 1;
}

void RunLog::write(const char* file, const std::string& kind, ordered_json head,
                   const ordered_json& fields) {
  ordered_json record;
  record["kind"] = kind;
  record["time"] = utc_now();
  record.update(head);
  for (const auto& [key, value] : fields.items()) {
    SVFLEET_CHECK(!record.contains(key), "the log's own key ", key);
    record[key] = value;
  }
  const std::string line = json_line(record);
  const std::lock_guard lock(mutex_);
  append_own_line(path_in(run_dir_, file), line);
}

ordered_json RunLog::head(int64_t step, const std::string& expert) const {
  ordered_json head = {{"step", step}, {"attempt", attempt(step)}};
  if (!expert.empty()) head["expert"] = expert;
  return head;
}

void RunLog::step(int64_t step, const ordered_json& fields, const ordered_json& z, bool last,
                  const std::string& expert) {
  const ordered_json begin = head(step, expert);
  if (step % kStepsPerZ != 0 && !last) {
    write(kLog, "step", begin, fields);
    return write(kZ, "z", begin, {{"z", z}});
  }
  ordered_json with_z = fields;
  with_z["z"] = z;
  write(kLog, "step", begin, with_z);
}

void RunLog::evaluation(int64_t step, const std::string& name, const ordered_json& fields,
                        const std::string& expert) {
  ordered_json begin = head(step, expert);
  begin["name"] = name;
  write(kLog, "evaluation", begin, fields);
}

void RunLog::event(const std::string& name, const ordered_json& fields) {
  write(kLog, "event", {{"name", name}}, fields);
}

void RunLog::rollout(int64_t step, const ordered_json& fields, const std::string& expert) {
  write(kRollouts, "rollout", head(step, expert), fields);
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
            std::make_shared<spdlog::sinks::basic_file_sink_mt>(path_in(run_dir, "svfleet.log"));
        file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
        sinks.push_back(file);
      } catch (const spdlog::spdlog_ex& e) {
        const std::string text = e.what();  // the reason comes last
        const size_t colon = text.rfind(": ");
        throw user_error("cannot write '", path_in(run_dir, "svfleet.log"),
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
