// How much of a disk is still to be written, known before anything is computed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/config/config.h"
#include "svd/target.h"

namespace svfleet {

// Rank 0. Error(kExitDisk) when the disk of the run folder, or that of the factor store, has no
// room for what is still to be written there. `fresh`: not even the first checkpoint is there.
void check_disks(const Config& config, int64_t start_step, bool fresh, const std::string& host);
// The same for the factor store alone.
void check_store_disk(const Config& config, const std::string& host);

// The parts.

// What a run will write, from its configuration and model alone.
struct WritingPlan {
  int64_t parameters = 0, matrices = 0;
  int64_t steps_left = 0;
  bool fresh = false;  // its first checkpoint is to be written too
  int64_t keep_checkpoints = 3, checkpoint_every = 1, chunks_per_step = 1;
  int64_t text_per_step = 0;  // bytes of log and replies
};
// What is there already and is replaced, not added to.
struct FilesThere {
  int64_t checkpoints = 0, chunks = 0, experts = 0;
};
// Bytes that the new files may take at one time, beside those that are there.
uint64_t run_needs(const WritingPlan& plan, const FilesThere& there);
// Bytes of the factors of these matrices.
uint64_t store_needs(const std::vector<Target>& missing, int64_t bytes_per_number);

std::string size_text(uint64_t bytes);  // "1.5 GiB"
// Empty when `need` bytes fit into `free`; else the line that says what is short and where.
std::string shortage(const std::string& what, const std::string& folder, uint64_t need,
                     uint64_t free, const std::string& host);

}  // namespace svfleet
