// What a training run keeps on the shared disk. Rank 0 alone lists, reads and writes it (what the
// journals of other ranks add apart); other nodes may see a listing that is a minute old.
//
// While a RunFolder lives, no rank changes anything below its path without a look at the owner file
// first, at most a second before where it only adds to a journal of its own: a process that was
// stopped or cut off and comes back after a take-over gets the error of verify_owner()
// (checkpoints/owner.h) at its next write, whatever that is.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/file.h"
#include "checkpoints/journal.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_state.h"
#include "comm/group.h"
#include "coordinator/config/config.h"

namespace svfleet {

// Error(kExitUser), and nothing is changed, for a run_dir that holds no run and something else than
// what comes before one (checkpoints/before_run.h) and the CONFIG; and for a run.json of something
// else.
void check_run_dir(const Config& config);

class RunFolder {
 public:
  // Collective. Makes the folder or opens an existing one, if check_run_dir() has nothing against
  // it, and takes its ownership (refused with the live owner's name). An owner whose Slurm job is
  // ending, or is a link of the same chain, is waited for up to five minutes or until a stop is
  // asked for on rank 0, and then is an Error(kExitRequeue).
  RunFolder(const Config& config, Group& group);

  // Collective, before anything is done with the folder. Every rank must see the owner file that
  // rank 0 has made: a folder of each node's own is an Error(kExitUser); where a run that is there
  // already is out of sight of fewer than half, an AgreedError(kExitDisk) names their hosts.
  void check_seen(Group& group) const;

  const std::string& path() const { return path_; }
  const std::string& run_id() const { return run_id_; }
  // Of several experts, the files of each are in a folder of its name.
  std::string expert_path(const std::string& name, const std::string& expert = "") const;
  // Whether all experts of the run have their final file.
  bool is_closed() const;

  // Rank 0, before the run's first checkpoint: RUN/effective.yaml, unless that is the CONFIG.
  void keep_configuration(const std::string& text) const;

  // Collective. The newest good checkpoint, the same on every rank, or nothing. Damaged ones are
  // reported and passed over. Where none is good, the Error of one that cannot be read comes first.
  std::optional<RunState> newest(Group& group) const;

  // Of this rank.
  Journal& journal() { return *journal_; }

  // Any rank: Error(kExitRequeue), naming the new owner, when the folder has changed hands.
  void verify_owner() const;

 private:
  void guard();

  std::string path_, run_id_;
  std::vector<std::string> experts_;  // of the configuration
  std::string config_file_;           // the CONFIG that was given
  bool existed_ = false;              // before this start; on rank 0
  std::string token_;                 // of the owner file, on all ranks
  std::unique_ptr<Owner> owner_;      // rank 0
  std::optional<WriteGuard> guard_;   // ends before the owner does
  std::optional<Journal> journal_;    // and this before the guard
};

}  // namespace svfleet
