// One writer per run folder: the owner file, made with O_EXCL, re-read before each rename.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace svfleet {

struct OwnerIdentity {
  std::string host;  // this machine's name
  int64_t pid = 0;
  std::string job;       // Slurm job id, or empty
  int64_t restarts = 0;  // SLURM_RESTART_COUNT
  std::string token;     // random, made by take()
};

struct OwnerSeen {
  OwnerIdentity who;
  std::string started;  // UTC, for people
  bool dead = false;    // it ran on this machine, and its process is gone
};
// Who has the run folder, for people; nothing when nobody has.
std::optional<OwnerSeen> look_at_owner(const std::string& run_dir);

class Owner {
 public:
  // Takes the folder, or throws Error(kExitUser) naming the live owner. An owner counts as gone
  // when it ran on this host (me.host) and its process is dead, or is an earlier restart of the
  // same job, or `job_ended(job)` says so.
  static Owner take(const std::string& run_dir, OwnerIdentity me,
                    bool (*job_ended)(const std::string& job) = nullptr);
  Owner(Owner&&) noexcept;
  ~Owner();  // releases the folder if still ours
  // Throws Error(kExitRequeue) when another writer has taken over; call before each rename.
  void verify() const;
  const OwnerIdentity& identity() const { return me_; }

 private:
  Owner(std::string run_dir, OwnerIdentity me);
  std::string run_dir_;
  OwnerIdentity me_;
};

}  // namespace svfleet
