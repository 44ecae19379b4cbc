// Journals of the run "run" for tests.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "checkpoints/file.h"
#include "checkpoints/journal.h"

namespace svfleet {

inline FinishedChunk example_chunk(int64_t step, int chunk, const std::string& z = "z") {
  FinishedChunk made;
  made.run_id = "run";
  made.step = step;
  made.chunk = chunk;
  made.z_hash = z;
  made.prompts = 2;
  made.groups = 1;
  made.gradient = {static_cast<float>(chunk), 0.5f};
  made.counts = {1, chunk};
  made.sums = {0.25, std::nan("")};
  made.texts = R"([{"reply":"ab"}])";
  return made;
}

inline std::string encode_frame(const Frame& frame, const FinishedChunk& chunk) {
  std::string bytes(kFrameHeader, '\0');
  append_payload(chunk, bytes);
  seal_frame(frame, bytes);
  return bytes;
}

// By a process of the owner `token`.
inline void write_journal(const std::string& run, const std::string& token,
                          const std::vector<FinishedChunk>& chunks, int rank = 0) {
  Journal journal(run, "run", token, rank);
  for (const FinishedChunk& chunk : chunks) journal.add(chunk);
  journal.flush();
}

// What a later process finds.
inline std::vector<FinishedChunk> read_journal(const std::string& run, int64_t step,
                                               std::vector<std::string>* ignored,
                                               const std::string& z = "z") {
  return Journal(run, "run", "reader", 0).read(step, z, ignored);
}

inline std::vector<int> numbers(const std::vector<FinishedChunk>& chunks) {
  std::vector<int> found;
  for (const FinishedChunk& chunk : chunks) found.push_back(chunk.chunk);
  return found;
}

}  // namespace svfleet
