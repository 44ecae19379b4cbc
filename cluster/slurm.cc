#include "cluster/slurm.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <set>
#include <sstream>

#include "cluster/program.h"

namespace svfleet {
namespace {

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Digits, and _ or + for arrays and heterogeneous jobs: nothing that squeue takes for an option.
bool is_job_id(const std::string& job) {
  return !job.empty() && job[0] >= '0' && job[0] <= '9' &&
         job.find_first_not_of("0123456789_+") == std::string::npos;
}

constexpr size_t kMostNodes = 100000;

// The names that one entry ("n[1-3,07]-ib") stands for. False when it is malformed.
bool expand_entry(const std::string& entry, std::vector<std::string>& nodes) {
  const size_t open = entry.find('[');
  if (open == std::string::npos) {
    if (entry.empty() || entry.find(']') != std::string::npos) return false;
    nodes.push_back(entry);
    return nodes.size() <= kMostNodes;
  }
  const size_t close = entry.find(']', open);
  if (close == std::string::npos) return false;
  const std::string ranges = entry.substr(open + 1, close - open - 1);
  for (size_t begin = 0; begin <= ranges.size();) {
    const size_t end = std::min(ranges.find(',', begin), ranges.size());
    const std::string range = ranges.substr(begin, end - begin);
    begin = end + 1;
    const size_t dash = range.find('-');
    const std::string first = range.substr(0, dash);
    const auto low = number(first);
    const auto high = dash == std::string::npos ? low : number(range.substr(dash + 1));
    if (!low || !high || *low < 0 || *high < *low ||
        static_cast<size_t>(*high - *low) >= kMostNodes)
      return false;
    for (int64_t i = *low; i <= *high; ++i) {
      std::string digits = std::to_string(i);
      if (digits.size() < first.size()) digits.insert(0, first.size() - digits.size(), '0');
      // A second pair of brackets is expanded in turn.
      if (!expand_entry(entry.substr(0, open) + digits + entry.substr(close + 1), nodes))
        return false;
    }
  }
  return true;
}

}  // namespace

std::vector<std::string> expand_node_list(const std::string& list) {
  std::vector<std::string> nodes;
  if (list.empty()) return nodes;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '[') ++depth;
    if (i < list.size() && list[i] == ']') --depth;
    if (i < list.size() && (list[i] != ',' || depth > 0)) continue;
    if (!expand_entry(list.substr(begin, i - begin), nodes)) return {list};
    begin = i + 1;
  }
  return nodes;
}

SlurmJob slurm_job() {
  SlurmJob job;
  job.job = environment("SLURM_JOB_ID");
  job.restarts = std::max<int64_t>(0, number(environment("SLURM_RESTART_COUNT")).value_or(0));
  job.start = std::max<int64_t>(0, number(environment("SVFLEET_START")).value_or(0));
  job.nodes = expand_node_list(environment("SLURM_JOB_NODELIST"));
  job.cluster = environment("SLURM_CLUSTER_NAME");
  job.end_time = number(environment("SLURM_JOB_END_TIME"));
  return job;
}

std::string cluster_name() {
  if (const std::string name = environment("SLURM_CLUSTER_NAME"); !name.empty()) return name;
  try {
    const Answer answer = run_program({"scontrol", "show", "config"}, 10);
    std::istringstream lines(answer.out);
    for (std::string key, equals, value, line; std::getline(lines, line);)
      if (std::istringstream(line) >> key >> equals >> value && key == "ClusterName") return value;
  } catch (...) {
  }
  return "";
}

JobPhase job_phase(const std::string& job, double timeout_s, bool ours) {
  try {
    if (!is_job_id(job)) return JobPhase::kUnknown;
    const Answer answer = run_program({"squeue", "-a", "-h", "-j", job, "-o", "%T"}, timeout_s);
    if (!answer.complete) return JobPhase::kUnknown;
    const JobPhase not_there = ours ? JobPhase::kOver : JobPhase::kUnknown;
    // A job that was purged from Slurm's memory: squeue fails with exactly this reason. Any other
    // failure (no controller, no rights) says nothing about the job.
    if (answer.exit_code != 0)
      return answer.err.find("Invalid job id") != std::string::npos ? not_there
                                                                    : JobPhase::kUnknown;
    static const std::set<std::string> over = {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE",      "FAILED",
        "NODE_FAIL", "PREEMPTED", "REVOKED",   "OUT_OF_MEMORY", "TIMEOUT"};
    // Nothing: known, and neither waiting nor running. One line for each task of an array.
    JobPhase phase = not_there;
    std::istringstream lines(answer.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      const bool ended = over.count(line) > 0;
      if (!ended && line != "COMPLETING") return JobPhase::kLives;
      if (!ended || phase != JobPhase::kEnding) phase = ended ? JobPhase::kOver : JobPhase::kEnding;
    }
    return phase;
  } catch (...) {
    return JobPhase::kUnknown;
  }
}

JobPhase job_phase(const std::string& job, const std::string& cluster, bool ours) {
  if (!cluster.empty() && cluster != cluster_name()) return JobPhase::kUnknown;
  return job_phase(job, 10, ours);
}

JobPhase job_phase(const std::string& job, const std::string& cluster) {
  return job_phase(job, cluster, true);
}

bool job_ended(const std::string& job, double timeout_s) {
  return job_phase(job, timeout_s) == JobPhase::kOver;
}

bool job_ended(const std::string& job) {
  return job_ended(job, 10);
}

bool job_ended(const std::string& job, const std::string& cluster, bool ours) {
  return job_phase(job, cluster, ours) == JobPhase::kOver;
}

bool job_ended(const std::string& job, const std::string& cluster) {
  return job_ended(job, cluster, true);
}

std::string job_name(const std::string& job) {
  try {
    if (!is_job_id(job)) return "";
    const Answer answer = run_program({"squeue", "-a", "-h", "-j", job, "-o", "%j"}, 10);
    return answer.complete && answer.exit_code == 0 ? answer.out.substr(0, answer.out.find('\n'))
                                                    : "";
  } catch (...) {
    return "";
  }
}

}  // namespace svfleet
