// What a run tells: RUN/log.jsonl (one object per step, evaluation and event), RUN/z.jsonl (how z
// stands after the steps whose record in the log does not say it), RUN/rollouts.jsonl (replies to
// read) and RUN/svfleet.log (the messages that were also on stderr).
//
// Every object has "kind" (step, evaluation, event, z, rollout), "time" (UTC) and, but for an
// event, "step" and "attempt". A step that is computed again after a restart is written again with
// the next attempt; readers take the last. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/run/log_index.h"

namespace svfleet {

// The writer; rank 0 only. Thread-safe. Each record is one write at the end of the file; a line
// that an earlier crash tore is cut off first.
class RunLog {
 public:
  explicit RunLog(std::string run_dir);

  // `name` tells evaluations of one step apart: "validation", "test base".
  // The statistics of `z`, a line for each matrix, are long: they stand in the record itself after
  // every 10th step and after the `last`, and in z.jsonl after the others.
  // `expert`: whose record it is, of several; empty: of the only one.
  void step(int64_t step, const nlohmann::ordered_json& fields, const nlohmann::ordered_json& z,
            bool last, const std::string& expert = "");
  void evaluation(int64_t step, const std::string& name, const nlohmann::ordered_json& fields,
                  const std::string& expert = "");
  void event(const std::string& name, const nlohmann::ordered_json& fields = {});
  void rollout(int64_t step, const nlohmann::ordered_json& fields, const std::string& expert = "");

  // 1 for a step that no earlier process has written, else one more than the last.
  int attempt(int64_t step) const;
  // Of earlier starts.
  const LongestTimes& longest() const { return before_.longest; }

 private:
  nlohmann::ordered_json head(int64_t step, const std::string& expert) const;
  void write(const char* file, const std::string& kind, nlohmann::ordered_json head,
             const nlohmann::ordered_json& fields);
  const std::string run_dir_;
  const LogIndex before_;
  std::mutex mutex_;
};

// Messages: spdlog's default logger, to stderr (above the progress line) and, on rank 0 with a
// run_dir, to RUN/svfleet.log. Other ranks print warnings only, with their rank.
void open_messages(const std::string& run_dir, int rank);

}  // namespace svfleet
