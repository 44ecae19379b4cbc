#include "cluster/restart.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoints/file.h"
#include "checkpoints/owner.h"
#include "cluster/exit_report.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The number in "step-000012..." ; -1 for other names.
int64_t step_of(const std::string& name) {
  int64_t step = -1;
  if (name.rfind("step-", 0) != 0 || !ends_with(name, ".h5")) return -1;
  std::from_chars(name.data() + 5, name.data() + name.size(), step);
  return step;
}

// A damaged or missing file is no object.
json read_object(const std::string& path) {
  try {
    if (!file_exists(path)) return {};
    json value = json::parse(read_file(path), nullptr, false);
    return value.is_object() ? value : json{};
  } catch (const Error&) {
    return {};
  }
}

int64_t whole(const json& object, const char* key, int64_t otherwise) {
  return object.is_object() && object.contains(key) && object[key].is_number_integer()
             ? object[key].get<int64_t>()
             : otherwise;
}

std::string where(const std::optional<RunProgress>& at) {
  if (!at) return "a place that cannot be read now";
  if (at->step < 0) return std::to_string(at->factors) + " matrices decomposed, no checkpoint";
  return "step " + std::to_string(at->step) + " and " + std::to_string(at->chunks) +
         " chunks finished";
}

// Nothing when the disk does not tell: it fails, or the run folder is out of sight.
std::optional<RunProgress> progress_seen(const std::string& run_dir, const std::string& store) {
  try {
    if (is_folder(run_dir)) return look_at_progress(run_dir, store);
  } catch (const Error&) {
  }
  return std::nullopt;
}

// Counts restarts that changed nothing. The first start of a run is none. Nothing when neither the
// progress nor the count of earlier restarts is known.
std::optional<int64_t> count_without_progress(const std::string& run_dir,
                                              const std::optional<RunProgress>& now,
                                              int64_t patience, const std::string& job,
                                              int64_t restarts) {
  const std::string path = run_dir + "/restarts.json";
  const json before = read_object(path);
  int64_t count = 0;
  bool more = false;
  RunProgress noted = now.value_or(RunProgress{});
  if (before.is_object()) {
    const RunProgress then{whole(before, "step", -1), whole(before, "chunks", 0),
                           whole(before, "factors", 0)};
    more = now && (*now > then || now->factors > then.factors);
    count = more ? 0 : whole(before, "without_progress", 0) + 1;
    if (!now) noted = then;
  }
  const bool gives_up = count >= patience;
  // Whoever starts it again after a person has looked has all tries anew.
  const json after = {{"step", noted.step},
                      {"chunks", noted.chunks},
                      {"factors", noted.factors},
                      {"without_progress", gives_up ? 0 : count},
                      {"job", job},
                      {"restarts", restarts}};
  try {
    write_file_atomic(path, after.dump(2) + "\n");
  } catch (const Error&) {
    // A full disk, say. Of the restarts since the last one that could be noted, one may have got
    // further.
    const bool known = before.is_object() && before.value("job", json()) == json(job);
    if (!now && !known) return std::nullopt;
    const int64_t since = known ? whole(before, "restarts", 0) : 0;
    return std::max(count, restarts - since - (more ? 1 : 0));
  }
  return count;
}

// Who has the run folder now, when it is not this start of this job; for a message.
std::optional<RunDecision> taken_over(const std::string& run_dir, const std::string& job,
                                      int64_t restarts,
                                      bool (*ended)(const std::string& job,
                                                    const std::string& cluster)) {
  std::optional<OwnerSeen> owner;
  try {
    owner = look_at_owner(run_dir);
  } catch (const Error&) {  // not known
  }
  if (!owner) return std::nullopt;
  if (owner->who.job == job) {
    if (owner->who.restarts <= restarts) return std::nullopt;
    return RunDecision{kExitFinished,
                       "the run belongs to restart " + std::to_string(owner->who.restarts) +
                           " of this job, this one is " + std::to_string(restarts) +
                           ": nothing is left to do here",
                       true};
  }
  if (owner->dead || ended(owner->who.job, owner->who.cluster)) return std::nullopt;
  return RunDecision{kExitUser,
                     "not started again: the run belongs to " +
                         (owner->who.job.empty() ? "process " + std::to_string(owner->who.pid)
                                                 : "job " + owner->who.job) +
                         " on host " + owner->who.host,
                     true};
}

}  // namespace

RunProgress look_at_progress(const std::string& run_dir, const std::string& store) {
  RunProgress at;
  for (const std::string& name : list_folder(run_dir + "/checkpoints"))
    at.step = std::max(at.step, step_of(name));
  for (const std::string& name : list_folder(run_dir + "/chunks"))
    at.chunks += step_of(name) >= std::max<int64_t>(0, at.step);  // not each step is a checkpoint
  for (const std::string& name : list_folder(store)) at.factors += ends_with(name, ".h5");
  return at;
}

RunDecision decide_after_run(const std::string& run_dir, const std::string& store,
                             const std::string& job, int64_t restarts, int64_t patience,
                             bool (*ended)(const std::string& job, const std::string& cluster),
                             bool refused) {
  if (auto other = taken_over(run_dir, job, restarts, ended)) return *other;
  // Where the run folder is out of sight, so may have been what the ranks did not find.
  if (refused && is_folder(run_dir))
    return {kExitUser,
            "not started again, code 2: the ranks ended before the run began; their lines are "
            "above"};
  const auto report = read_exit_report(run_dir);
  const bool ours =
      report && report->job == job && report->restarts == restarts && report->code >= 0;
  if (ours) {
    if (report->code == kExitFinished) return {report->code, report->reason};
    if (report->code != kExitRequeue && report->code != kExitDisk)
      return {report->code,
              "not started again, code " + std::to_string(report->code) + ": " + report->reason};
  }
  const std::optional<RunProgress> now = progress_seen(run_dir, store);
  const auto count = count_without_progress(run_dir, now, patience, job, restarts);
  const std::string reason = ours ? report->reason : "it left no report, so it was killed";
  if (!count && restarts >= kMostBlindRestarts)
    return {kExitNoProgress, "the run folder cannot be read after " + std::to_string(restarts) +
                                 " restarts; look at its disk, then submit again"};
  if (count && *count >= patience)
    return {kExitNoProgress, "no progress in " + std::to_string(*count) + " restarts (" +
                                 where(now) + "), last: " + reason +
                                 "; look at the job's output, then submit again"};
  return {kExitRequeue, "to be started again at " + where(now) + ": " + reason};
}

}  // namespace svfleet
