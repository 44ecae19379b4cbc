#include "cluster/restart.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/exit_report.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

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
  if (at->step < 0)
    return std::to_string(at->factors) + (at->factors == 1 ? " matrix" : " matrices") +
           " decomposed, no checkpoint";
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

std::vector<std::string> texts(const json& object, const char* key) {
  std::vector<std::string> all;
  if (object.is_object() && object.contains(key) && object[key].is_array())
    for (const json& one : object[key])
      if (one.is_string()) all.push_back(one);
  return all;
}

void add(std::vector<std::string>& hosts, const std::vector<std::string>& more) {
  for (const std::string& host : more)
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
}

// RUN/restarts.json.
struct Notes {
  bool known = false;
  RunProgress at;
  int64_t without_progress = 0;
  std::string job;
  int64_t restarts = 0, start = 0;
  // Of this restart of the job: hosts at fault, and those under which a disk failed.
  std::vector<std::string> at_fault, disk;
};

std::string notes_path(const std::string& run_dir) {
  return run_dir + "/restarts.json";
}

Notes read_notes(const std::string& run_dir) {
  const json file = read_object(notes_path(run_dir));
  if (!file.is_object()) return {};
  Notes notes;
  notes.known = true;
  notes.at = {whole(file, "step", -1), whole(file, "chunks", 0), whole(file, "replies", 0),
              whole(file, "factors", 0)};
  notes.without_progress = whole(file, "without_progress", 0);
  if (file.contains("job") && file["job"].is_string()) notes.job = file["job"];
  notes.restarts = whole(file, "restarts", 0);
  notes.start = whole(file, "start", 0);
  notes.at_fault = texts(file, "at_fault");
  notes.disk = texts(file, "disk");
  return notes;
}

// False when the disk does not take it.
bool write_notes(const std::string& run_dir, const Notes& notes) {
  const json file = {{"step", notes.at.step},
                     {"chunks", notes.at.chunks},
                     {"replies", notes.at.replies},
                     {"factors", notes.at.factors},
                     {"without_progress", notes.without_progress},
                     {"job", notes.job},
                     {"restarts", notes.restarts},
                     {"start", notes.start},
                     {"at_fault", notes.at_fault},
                     {"disk", notes.disk}};
  try {
    write_file_atomic(notes_path(run_dir), file.dump(2) + "\n");
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Counts starts that changed nothing, and notes it. The first start of a run is none. Nothing when
// neither the progress nor the count of earlier starts is known.
std::optional<int64_t> count_without_progress(const EndedStart& ended, const Notes& before,
                                              Notes& now,
                                              const std::optional<RunProgress>& progress) {
  int64_t count = 0;
  bool more = false;
  now.at = progress.value_or(RunProgress{});
  if (before.known) {
    more = progress && (*progress > before.at || progress->factors > before.at.factors);
    count = more ? 0 : before.without_progress + 1;
    if (!progress) now.at = before.at;
  }
  // Whoever starts it again after a person has looked has all tries anew.
  now.without_progress = count >= ended.patience ? 0 : count;
  if (write_notes(ended.run_dir, now)) return count;
  // A full disk, say. Of the starts since the last one that could be noted, one may have got
  // further.
  const bool ours = before.known && before.job == ended.job;
  if (!progress && !ours) return std::nullopt;
  const int64_t restarts = ended.restarts - (ours ? before.restarts : 0);
  const int64_t starts =
      restarts + ended.start - (ours && restarts == 0 ? before.start : 0) - (more ? 1 : 0);
  return std::max(count, starts);
}

// Who has the run folder now, when it is not this start of this job; for a message.
std::optional<RunDecision> taken_over(const EndedStart& ended,
                                      JobPhase (*phase_of)(const std::string& job,
                                                           const std::string& cluster)) {
  std::optional<OwnerSeen> owner;
  try {
    owner = look_at_owner(ended.run_dir);
  } catch (const Error&) {  // not known
  }
  if (!owner) return std::nullopt;
  const OwnerIdentity& who = owner->who;
  if (who.job == ended.job) {
    if (std::pair(who.restarts, who.start) <= std::pair(ended.restarts, ended.start))
      return std::nullopt;
    return RunDecision{kExitFinished,
                       "the run belongs to restart " + std::to_string(who.restarts) +
                           " of this job, this one is " + std::to_string(ended.restarts) +
                           ": nothing is left to do here",
                       true};
  }
  const JobPhase phase = phase_of(who.job, who.cluster);
  if (owner->dead || phase == JobPhase::kOver) return std::nullopt;
  if (phase == JobPhase::kEnding && ended.restarts < kMostBlindRestarts)
    return RunDecision{kExitRequeue,
                       "to be started again: the run belongs to job " + who.job + " on host " +
                           who.host + ", which is still ending",
                       true};
  return RunDecision{
      kExitUser,
      "not started again: the run belongs to " +
          (who.job.empty() ? "process " + std::to_string(who.pid) : "job " + who.job) +
          " on host " + who.host,
      true};
}

// Adds what the end of this start says of machines to what was noted of earlier ones. Whether the
// fault was that of a host.
bool blame(const ExitReport& report, Notes& now) {
  if (report.hosts.empty()) return false;
  if (report.code == kExitDisk) {
    add(now.disk, report.hosts);
    if (now.disk.size() > 1) {
      now.disk.clear();
      now.at_fault.clear();
      return false;
    }
  }
  add(now.at_fault, report.hosts);
  return true;
}

}  // namespace

RunProgress look_at_progress(const std::string& run_dir, const std::string& store) {
  RunProgress at;
  const std::vector<int64_t> saved = checkpoint_steps(run_dir);
  if (!saved.empty()) at.step = saved.back();
  at.chunks = count_chunks(run_dir, at.step);
  at.replies = count_replies(run_dir, at.step);
  for (const std::string& name : list_folder(store)) at.factors += name.ends_with(".h5");
  return at;
}

RunDecision decide_after_run(const EndedStart& ended,
                             JobPhase (*phase_of)(const std::string& job,
                                                  const std::string& cluster)) {
  if (auto other = taken_over(ended, phase_of)) return *other;
  const std::optional<RunProgress> progress = progress_seen(ended.run_dir, ended.store);
  // Where the run folder is out of sight, so may have been what the ranks did not find.
  if (ended.refused && progress)
    return {kExitUser,
            "not started again, code 2: the ranks ended before the run began; their lines are "
            "above"};
  const auto report = read_exit_report(ended.run_dir);
  const bool ours = report && report->job == ended.job && report->restarts == ended.restarts &&
                    report->start == ended.start && report->code >= 0;
  if (ours) {
    if (report->code == kExitFinished) return {report->code, report->reason};
    if (report->code != kExitRequeue && report->code != kExitDisk)
      return {report->code,
              "not started again, code " + std::to_string(report->code) + ": " + report->reason};
  }
  const Notes before = read_notes(ended.run_dir);
  Notes now;
  now.job = ended.job, now.restarts = ended.restarts, now.start = ended.start;
  if (before.job == ended.job && before.restarts == ended.restarts)
    now.at_fault = before.at_fault, now.disk = before.disk;
  const bool by_host = ours && blame(*report, now);
  const auto count = count_without_progress(ended, before, now, progress);
  const std::string reason = ours ? report->reason : "it left no report, so it was killed";
  if (!count && ended.restarts >= kMostBlindRestarts)
    return {kExitNoProgress, "the run folder cannot be read after " +
                                 std::to_string(ended.restarts) +
                                 " restarts; look at its disk, then submit again"};
  if (count && *count >= ended.patience)
    return {kExitNoProgress, "no progress in " + std::to_string(*count) + " restarts (" +
                                 where(progress) + "), last: " + reason +
                                 "; look at the job's output, then submit again"};
  return {kExitRequeue, "to be started again at " + where(progress) + ": " + reason, false,
          now.at_fault, by_host && count};
}

}  // namespace svfleet
