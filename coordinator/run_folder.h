// What a training run keeps on the shared disk. Rank 0 alone lists, reads and writes it (chunk
// files apart); other nodes may see a listing that is a minute old.
#pragma once

#include <memory>
#include <string>

#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "coordinator/config.h"
#include "coordinator/crew.h"

namespace svfleet {

class RunFolder {
 public:
  // Collective. Makes the folder or opens an existing one, takes its ownership (refused with the
  // live owner's name), and checks that every rank sees the folder that rank 0 sees.
  RunFolder(const Config& config, Crew& crew);

  const std::string& path() const { return path_; }
  const std::string& run_id() const { return run_id_; }
  std::string expert_path(const std::string& name) const;

  // Collective. The newest good checkpoint, the same on every rank, or nothing. Damaged ones are
  // reported and passed over.
  std::optional<RunState> newest(Crew& crew) const;

  // Rank 0: error unless this process still owns the folder. Call before writing what a take-over
  // must not see.
  void verify_owner() const;

 private:
  std::string path_, run_id_;
  std::unique_ptr<Owner> owner_;
};

}  // namespace svfleet
