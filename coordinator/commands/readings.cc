#include "coordinator/commands/readings.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoints/claim.h"
#include "checkpoints/file.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/run/json_line.h"

namespace svfleet {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

bool is_run(const fs::path& folder) {
  std::error_code none;
  return fs::exists(folder / "run.json", none);
}

json line_of(const TestReading& reading) {
  return {{"kind", "reading"},         {"time", utc(wall_clock_s())}, {"split", reading.split},
          {"data", reading.data},      {"expert", reading.expert},    {"items", reading.items},
          {"samples", reading.samples}};
}

// Lines that say so of this split; what cannot be read counts for nothing.
int64_t times_read(const std::string& path, const std::string& split) {
  int64_t times = 0;
  read_lines(path, [&](std::string_view text) {
    const json line = json::parse(text, nullptr, false);
    times += line.is_object() && line.value("kind", json()) == "reading" &&
             line.value("split", json()) == split;
  });
  return times;
}

// Two evaluations at a time: the claim keeps the one from taking the other's half-written line for
// that of a crash, and from ending it.
void add_lines(const std::string& path, const std::vector<const TestReading*>& readings) {
  const Claim claim(path);
  for (const TestReading* reading : readings) append_line(path, json_line(line_of(*reading)));
}

}  // namespace

std::string run_read_by(const std::string& expert_file, const std::string& run_dir) {
  const fs::path folder = fs::path(resolved_path(expert_file)).parent_path();
  if (folder.filename() == "experts" && is_run(folder.parent_path())) {
    const fs::path as_given = fs::path(expert_file).parent_path().parent_path();
    return as_given.empty() ? folder.parent_path().string() : as_given.string();
  }
  return is_run(run_dir) ? run_dir : "";
}

std::vector<EarlierReadings> note_readings(const std::vector<TestReading>& readings) {
  std::map<std::string, std::vector<const TestReading*>> by_run;
  for (const TestReading& reading : readings) by_run[reading.run_dir].push_back(&reading);
  std::vector<EarlierReadings> before;
  for (const auto& [run, own] : by_run) {
    const std::string path = run + "/readings.jsonl";
    try {
      before.push_back({run, times_read(path, own[0]->split)});
      add_lines(path, own);
    } catch (const Error& error) {
      spdlog::warn("this reading of the {} split is not noted in '{}': {}", own[0]->split, path,
                   error.what());
    }
  }
  return before;
}

}  // namespace svfleet
