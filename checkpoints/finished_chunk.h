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
  int expert = 0;               // of several that are trained together: its number
  std::string z_hash;           // of the policy that produced it
  int64_t prompts = 0;          // that it is of; of a population, the members
  int64_t groups = 0;           // of these, those that are trained
  std::vector<float> gradient;  // [groups, all r], unnormalised sums over each
  std::vector<int64_t> counts;  // what it was, for the step's record, as whole numbers
  std::vector<double> sums;     // and sums
  std::string texts;            // JSON: a list of sampled replies
};

// Appends all but its identity, which stands in the frame (frame.h).
void append_payload(const FinishedChunk& chunk, std::string& bytes);
// Error(kExitDisk), naming `origin`, when these bytes are no payload.
void decode_payload(std::string_view bytes, const std::string& origin, FinishedChunk& chunk);

}  // namespace svfleet
