// A finished chunk, and the bytes that the journal keeps of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

struct FinishedChunk {
  std::string run_id;  // of the run folder
  int64_t step = 0;    // the step this chunk belongs to (steps finished before it)
  int chunk = 0;
  std::string z_hash;           // of the policy that produced it
  std::vector<float> gradient;  // [all r], unnormalised sum over the chunk
  std::vector<int64_t> counts;  // what it was, for the step's record, as whole numbers
  std::vector<double> sums;     // and sums
  std::string texts;            // JSON: a list of sampled replies
  std::string summary;          // of version 1, JSON, instead of these three
};

// Appends all but its identity, which stands in the frame (frame.h).
void append_payload(const FinishedChunk& chunk, std::string& bytes);
// Error(kExitDisk), naming `origin`, when these bytes are no payload.
void decode_payload(std::string_view bytes, const std::string& origin, FinishedChunk& chunk);

// An HDF5 file of version 1 or 2, as earlier programs wrote one for each chunk. Error(kExitDisk).
FinishedChunk decode_chunk_file(std::string image, const std::string& origin);

}  // namespace svfleet
