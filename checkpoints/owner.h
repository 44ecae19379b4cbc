// One writer per run folder: the owner file, made with O_EXCL, re-read before each change by every
// process of the owner, or a moment before where it only adds to a file of its own (WriteGuard in
// checkpoints/file.h).
//
// A process can stop between that look and the change, and go on long after a take-over:
// shut_out_others() makes that harmless, and what such a process removes it first moves away, looks
// at again and puts back (file.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/error.h"

namespace svfleet {

struct OwnerIdentity {
  std::string host;  // this machine's name
  int64_t pid = 0;
  std::string job;           // Slurm job id, or empty
  int64_t restarts = 0;      // SLURM_RESTART_COUNT
  std::string token;         // random, made by take()
  std::string cluster = {};  // whose number `job` is, or empty: not known
  int64_t start = 0;         // of the ranks within this restart: the job script counts them
  int64_t uid = -1;          // the user's, noted by take(); -1: not known
};
// As far as is known.
bool of_this_user(const OwnerIdentity& who);

struct OwnerSeen {
  OwnerIdentity who;
  std::string started;  // UTC, for people
  bool dead = false;    // it ran on this machine, and its process is gone
};
// Who has the run folder, for people; nothing when nobody has.
std::optional<OwnerSeen> look_at_owner(const std::string& run_dir);

// Names the live owner; kExitUser.
class FolderInUse : public Error {
 public:
  FolderInUse(const std::string& message, OwnerIdentity owner)
      : Error(kExitUser, message), owner_(std::move(owner)) {}
  const OwnerIdentity& owner() const { return owner_; }

 private:
  OwnerIdentity owner_;
};

class Owner {
 public:
  // Takes the folder, or throws FolderInUse. An owner counts as gone when it ran on this host
  // (me.host) and its process is dead, or is an earlier restart of the same job or an earlier start
  // within it, or `job_ended` says so, which is not asked about a job of another cluster than
  // me.cluster, and is told whether it is of_this_user().
  using JobEnded = bool (*)(const std::string& job, const std::string& cluster, bool ours);
  static Owner take(const std::string& run_dir, OwnerIdentity me, JobEnded job_ended = nullptr);
  Owner(Owner&&) noexcept;
  ~Owner();  // releases the folder if still ours
  // Removes the run's temporary files and the claims of others, so that no other process can rename
  // its own into place any more. After a take-over also completes the last line of the old owner
  // (own_lines.h), and replaces logs that others append to as well, or all where that is not
  // possible, by copies of themselves, so that a line for a log opened before goes to no file. Call
  // first of all, under a WriteGuard.
  void shut_out_others() const;
  void verify() const;  // verify_owner() with its own token
  const OwnerIdentity& identity() const { return me_; }

 private:
  Owner(std::string run_dir, OwnerIdentity me, std::optional<std::string> predecessor);
  std::string run_dir_;
  OwnerIdentity me_;
  std::optional<std::string> predecessor_;  // lines_by() it, who may still be there; "": not known
};

// For every process that knows the token. verify_owner throws Error(kExitRequeue), naming who owns
// the folder now, unless is_owner(); where nobody does it looks again for a second.
bool is_owner(const std::string& run_dir, const std::string& token);
void verify_owner(const std::string& run_dir, const std::string& token);

}  // namespace svfleet
