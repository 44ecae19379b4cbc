// What a run tells: RUN/log.jsonl (one object per step, evaluation and event), RUN/rollouts.jsonl
// (replies to read) and RUN/svfleet.log (the messages that were also on stderr).
//
// log.jsonl: every object has "kind" (step, evaluation, event), "time" (UTC) and, for a step and an
// evaluation, "step" and "attempt". A step that is computed again after a restart is written again
// with the next attempt; readers take the last. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace svfleet {

// The writer; rank 0 only. Thread-safe. Each record is one write at the end of the file; a line
// that an earlier crash tore is cut off first.
class RunLog {
 public:
  explicit RunLog(std::string run_dir);

  // `name` tells evaluations of one step apart: "validation", "test base".
  void step(int64_t step, const nlohmann::ordered_json& fields);
  void evaluation(int64_t step, const std::string& name, const nlohmann::ordered_json& fields);
  void event(const std::string& name, const nlohmann::ordered_json& fields = {});
  void rollout(int64_t step, const nlohmann::ordered_json& fields);

  // 1 for a step that no earlier process has written, else one more than the last.
  int attempt(int64_t step) const;

 private:
  void write(const std::string& file, const std::string& kind, nlohmann::ordered_json head,
             const nlohmann::ordered_json& fields);
  const std::string run_dir_;
  std::map<int64_t, int> attempts_before_;
  std::mutex mutex_;
};

struct LogRecords {
  // The last attempt of each step and evaluation, and all events, in the order of the file.
  std::vector<nlohmann::json> records;
  std::vector<std::string> ignored;  // one line for each broken line: "log.jsonl:12: ..."
};

// Reads without changing the file, which may be growing; a torn last line is left out. A missing
// file has no records.
LogRecords read_log(const std::string& run_dir);
// Rollouts of the last attempt of each step.
LogRecords read_rollouts(const std::string& run_dir);

// The longest chunk and save of the run so far, in seconds; 0 when there are none.
std::pair<double, double> longest_chunk_and_save_s(const std::string& run_dir);

// Messages: spdlog's default logger, to stderr (above the progress line) and, on rank 0 with a
// run_dir, to RUN/svfleet.log. Other ranks print warnings only, with their rank.
void open_messages(const std::string& run_dir, int rank);

}  // namespace svfleet
