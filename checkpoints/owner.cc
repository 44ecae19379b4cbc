#include "checkpoints/owner.h"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "checkpoints/file.h"
#include "checkpoints/own_lines.h"
#include "checkpoints/process.h"
#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kOwnerFormat[] = "svfleet-owner";
constexpr int kOwnerVersion = 1;  // docs/formats.md; never renumber

struct OwnerFile {
  OwnerIdentity who;
  int64_t process_start = 0;  // 0: not known
  std::string started;        // for people
};

std::string owner_path(const std::string& run_dir) {
  return run_dir + "/owner.json";
}

std::string random_token() {
  std::random_device source;
  std::string token;
  for (int i = 0; i < 32; ++i) token += "0123456789abcdef"[source() % 16];
  return token;
}

std::string encode(const OwnerFile& file) {
  nlohmann::ordered_json json = {{"format", kOwnerFormat},  {"version", kOwnerVersion},
                                 {"host", file.who.host},   {"pid", file.who.pid},
                                 {"job", file.who.job},     {"restarts", file.who.restarts},
                                 {"token", file.who.token}, {"process_start", file.process_start},
                                 {"started", file.started}, {"cluster", file.who.cluster},
                                 {"start", file.who.start}, {"uid", file.who.uid}};
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Nothing when the file is torn.
std::optional<OwnerFile> decode(const std::string& text, const std::string& path) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  try {
    if (!json.is_object() || json.at("format") != kOwnerFormat) return std::nullopt;
    if (json.at("version") != kOwnerVersion)
      throw user_error("'", path, "' was written by another version of svfleet; use that one");
    OwnerFile file;
    file.who.host = json.at("host");
    file.who.pid = json.at("pid");
    file.who.job = json.at("job");
    file.who.restarts = json.at("restarts");
    file.who.token = json.at("token");
    file.process_start = json.at("process_start");
    file.started = json.at("started");
    file.who.cluster = json.value("cluster", "");
    file.who.start = json.value("start", int64_t{0});
    file.who.uid = json.value("uid", int64_t{-1});
    return file;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

struct Found {
  bool exists = false;
  std::optional<OwnerFile> owner;  // empty although it exists: torn
};

Found read_owner(const std::string& path) {
  if (!file_exists(path)) return {};
  try {
    return {true, decode(read_file(path), path)};
  } catch (const Error& error) {
    if (!file_exists(path)) return {};  // released in between
    throw;
  }
}

// A file just made by O_EXCL may still be empty; one that stays torn was left by a crash.
Found read_settled_owner(const std::string& path) {
  Found found = read_owner(path);
  for (int i = 0; i < 20 && found.exists && !found.owner; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    found = read_owner(path);
  }
  return found;
}

bool is_dead(const OwnerFile& owner, const std::string& host) {
  const bool here = owner.who.host == host || owner.who.host == host_name();
  return here && !process_runs(owner.who.pid, owner.process_start);
}

bool is_gone(const OwnerFile& owner, const OwnerIdentity& me, Owner::JobEnded job_ended) {
  const OwnerIdentity& who = owner.who;
  if (is_dead(owner, me.host)) return true;
  if (who.job.empty()) return false;
  // Our Slurm knows nothing of it, or means another job by that number.
  if (!who.cluster.empty() && !me.cluster.empty() && who.cluster != me.cluster) return false;
  if (who.job == me.job && std::pair(who.restarts, who.start) < std::pair(me.restarts, me.start))
    return true;
  return job_ended && job_ended(who.job, who.cluster, of_this_user(who));
}

std::string owner_name(const OwnerIdentity& who) {
  return "process " + std::to_string(who.pid) + " on host " + who.host +
         (who.job.empty() ? "" : " of job " + who.job) +
         (who.job.empty() || who.cluster.empty() ? "" : " on cluster " + who.cluster);
}

bool has_token(const Found& found, const std::string& token) {
  return found.owner && found.owner->who.token == token;
}

// An owner that was taken for gone may have moved its successor's file away and put it back at once
// (remove_own).
Found read_present_owner(const std::string& path) {
  Found found = read_settled_owner(path);
  for (int i = 0; i < 20 && !found.exists; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    found = read_settled_owner(path);
  }
  return found;
}

// Between a look and a removal a file may become another's: who was slow would remove the file of
// who was quick.
void remove_own(const std::string& path, const std::string& token) {
  remove_after_look(path, path + ".left-" + token,
                    [&](const std::string& moved) { return has_token(read_owner(moved), token); });
}

std::string mark_of(const std::optional<OwnerFile>& owner) {
  return owner ? lines_by(owner->who.host, owner->who.pid, owner->process_start) : "";
}

[[noreturn]] void refuse(const std::string& run_dir, const OwnerFile& owner) {
  throw FolderInUse("the run folder '" + run_dir + "' is in use by " + owner_name(owner.who) +
                        " since " + owner.started +
                        "; wait for it or stop it (if it is surely gone, remove '" +
                        owner_path(run_dir) + "')",
                    owner.who);
}

}  // namespace

bool of_this_user(const OwnerIdentity& who) {
  return who.uid < 0 || who.uid == int64_t(geteuid());
}

std::optional<OwnerSeen> look_at_owner(const std::string& run_dir) {
  const Found found = read_settled_owner(owner_path(run_dir));
  if (!found.owner) return std::nullopt;
  return OwnerSeen{found.owner->who, found.owner->started, is_dead(*found.owner, host_name())};
}

Owner::Owner(std::string run_dir, OwnerIdentity me, std::optional<std::string> predecessor)
    : run_dir_(std::move(run_dir)), me_(std::move(me)), predecessor_(std::move(predecessor)) {}

Owner::Owner(Owner&& other) noexcept
    : run_dir_(std::move(other.run_dir_)),
      me_(std::move(other.me_)),
      predecessor_(std::move(other.predecessor_)) {
  other.me_.token.clear();
}

Owner Owner::take(const std::string& run_dir, OwnerIdentity me, JobEnded job_ended) {
  me.token = random_token();
  me.uid = int64_t(geteuid());
  OwnerFile mine{me, me.pid == getpid() ? process_start(me.pid) : 0, utc(wall_clock_s())};
  const std::string path = owner_path(run_dir);
  make_folder(run_dir);
  // Several may want the folder at once: each turn either takes it, or refuses, or finds that
  // another one has moved and looks again.
  for (int turn = 0; turn < 100; ++turn) {
    bool existed = false;
    const Found found = read_settled_owner(path);
    if (!found.exists) {
      write_new_file(path, encode(mine), &existed);
      if (!existed) return Owner(run_dir, me, std::nullopt);
      continue;
    }
    // Whoever made the claim before ours and was taken for dead has renamed ours into place.
    if (has_token(found, me.token)) return Owner(run_dir, me, "");
    if (found.owner && !is_gone(*found.owner, me, job_ended)) refuse(run_dir, *found.owner);

    // The claim to succeed this very owner. Only one can make it; it becomes the owner file.
    const std::string old_token = found.owner ? found.owner->who.token : "torn";
    const std::string claim = path + ".after-" + old_token;
    write_new_file(claim, encode(mine), &existed);
    if (existed) {
      const auto stale = [&](const Found& other) {
        return other.exists && (!other.owner || is_gone(*other.owner, me, job_ended));
      };
      const Found other = read_settled_owner(claim);
      if (stale(other))
        remove_after_look(claim, claim + ".left-" + me.token, [&](const std::string& moved) {
          return stale(read_settled_owner(moved));
        });
      else if (!has_token(other, me.token))  // else another taker has put it back
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (!has_token(other, me.token)) continue;
    }
    const Found still = read_owner(path);
    const bool same = still.exists && (still.owner ? still.owner->who.token : "torn") == old_token;
    if (!same) {
      remove_own(claim, me.token);
      continue;
    }
    rename_file(claim, path);
    if (has_token(read_owner(path), me.token)) return Owner(run_dir, me, mark_of(found.owner));
  }
  throw user_error("the run folder '", run_dir, "' is being taken by another process; start ",
                   "again when it has ended");
}

Owner::~Owner() {
  if (me_.token.empty()) return;
  try {
    if (is_owner(run_dir_, me_.token)) remove_own(owner_path(run_dir_), me_.token);
  } catch (const Error&) {
    // Taken over, or a disk that fails: the next owner's rules cope with what is left.
  }
}

void Owner::shut_out_others() const {
  remove_run_temporaries(run_dir_);
  // What takers that were killed have left; nobody succeeds an owner before us any more.
  const std::string ours = "owner.json.after-" + me_.token;
  for (const std::string& name : list_folder(run_dir_))
    if ((name.starts_with("owner.json.after-") || name.starts_with("owner.json.left-")) &&
        !name.starts_with(ours))
      remove_file(run_dir_ + "/" + name);
  if (!predecessor_) return;
  const bool settled = settle_last_line(run_dir_, *predecessor_);
  std::vector<std::string> logs = {"svfleet.log", "ledger.jsonl"};
  if (!settled) logs.insert(logs.end(), {"log.jsonl", "rollouts.jsonl", "z.jsonl"});
  for (const std::string& name : logs)
    if (const std::string path = run_dir_ + "/" + name; file_exists(path))
      write_file_atomic(path, read_file(path));
}

void Owner::verify() const {
  verify_owner(run_dir_, me_.token);
}

bool is_owner(const std::string& run_dir, const std::string& token) {
  return has_token(read_owner(owner_path(run_dir)), token);
}

void verify_owner(const std::string& run_dir, const std::string& token) {
  const Found found = read_present_owner(owner_path(run_dir));
  if (has_token(found, token)) return;
  // A run's folder is never empty, nor is it removed: this machine does not see it any more.
  if (!found.exists && list_folder(run_dir).empty())
    throw node_error(kExitDisk, "the run folder '", run_dir, "' is gone from host ", host_name(),
                     "; mount its disk there again and start again: nothing saved so far is lost");
  std::string by = "nobody (its owner file is gone)";
  if (found.owner)
    by = owner_name(found.owner->who);
  else if (found.exists)
    by = "another process";
  throw make_error(kExitRequeue, "the run folder '", run_dir, "' now belongs to ", by,
                   "; this process writes nothing more to it");
}

}  // namespace svfleet
