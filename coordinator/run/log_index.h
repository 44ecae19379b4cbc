// What is read back from RUN/log.jsonl, RUN/rollouts.jsonl and RUN/z.jsonl, which may be growing.
// Each line is looked at once, as it comes: a log may be far larger than memory. Broken and torn
// lines are left out. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace svfleet {

// 0: there was none.
struct LongestTimes {
  double chunk_s = 0;  // of a chunk's own, of one expert
  double held_s = 0;   // for which a worker held one, and chunks of other experts with it
  double save_s = 0;
};
// Over the steps of log.jsonl.
LongestTimes longest_times(const std::string& run_dir);

// What a start needs to know: one pass over each of the three files.
struct LogIndex {
  std::map<int64_t, int> attempts;  // the last one of each step
  LongestTimes longest;
};
LogIndex index_logs(const std::string& run_dir);

struct LastEvaluations {
  nlohmann::json evaluation;  // the last one; null when there is none
  nlohmann::json best;        // the one that chose the best expert, or null
};
struct LastRecords : LastEvaluations {
  std::vector<nlohmann::json> steps;  // in the order of the file, of each step its last attempt
  std::map<std::string, LastEvaluations> experts;  // by name, of several, those that have any
};
// The last so many steps; of several experts, the records of all of them.
LastRecords last_records(const std::string& run_dir, size_t steps);

// "log.jsonl:12: not a record, left out" for each broken line of the three.
std::vector<std::string> broken_lines(const std::string& run_dir);

}  // namespace svfleet
