// The chunk journal: finished chunks of the unfinished step, each a small checksummed file
// chunks/step-NNNNNN-chunk-NNNN.h5, written the moment the chunk is done, so that a kill costs at
// most the chunks in flight. Folded into the checkpoint and removed after it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

struct FinishedChunk {
  std::string run_id;  // of the run folder; a journal of another run is ignored
  int64_t step = 0;    // the step this chunk belongs to (steps finished before it)
  int chunk = 0;
  std::string z_hash;           // of the policy that produced it
  std::vector<float> gradient;  // [all r], unnormalised sum over the chunk
  std::vector<int64_t> counts;  // what it was, for the step's record, as whole numbers
  std::vector<double> sums;     // and sums
  std::string texts;            // JSON: a list of sampled replies
  std::string summary;          // of version 1, JSON, instead of these three
};

void write_chunk(const std::string& run_dir, const FinishedChunk& chunk);
// The chunks of (run_id, step, z_hash) that read back whole, by chunk number. Others are named in
// `ignored` (one line each), never used.
std::vector<FinishedChunk> read_chunks(const std::string& run_dir, const std::string& run_id,
                                       int64_t step, const std::string& z_hash,
                                       std::vector<std::string>* ignored);
// Removes the files of all steps before `step`.
void clear_chunks_before(const std::string& run_dir, int64_t step);

}  // namespace svfleet
