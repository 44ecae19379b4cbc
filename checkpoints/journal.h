// The chunk journal: finished chunks of unfinished steps, and finished replies of unfinished
// chunks, so that a kill costs at most what is being written and those few that are not on the disk
// yet. Folded into the checkpoint and removed after it. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoints/finished_chunk.h"
#include "checkpoints/finished_reply.h"
#include "checkpoints/frame.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/journal_writer.h"

namespace svfleet {

// One per process of a run. Each rank writes files of its own, which carry the owner's token: a
// writer that was taken over and still comes adds right bits to a file that its successor does not
// write to.
class Journal {
 public:
  Journal(std::string run_dir, std::string run_id, std::string token, int rank);

  // What earlier processes have finished of (step, z_hash, expert) and reads back whole, by chunk
  // number: experts that have learnt nothing yet have one z_hash.
  // What is damaged or of another run, step or policy is named in `ignored` (one line each), never
  // used. The folder is looked at in the first call.
  std::vector<FinishedChunk> read(int64_t step, const std::string& z_hash,
                                  std::vector<std::string>* ignored, int expert = 0);

  // The same of replies, of chunks that are finished too.
  std::vector<FinishedReply> read_replies(int64_t step, const std::string& z_hash,
                                          std::vector<std::string>* ignored, int expert = 0);

  // Hands it to the thread that writes (journal_writer.h). Any thread.
  void add(const FinishedChunk& chunk);
  void add(const FinishedReply& reply);
  // What was handed in is on the disk. Call it before a checkpoint and before a stop.
  void flush();
  // A checkpoint of `step` is safe. Rank 0: what is of no use any more is removed, some time later.
  void checkpointed(int64_t step);

 private:
  struct Old {
    std::string name;
    Frame frame;
  };
  void look(std::vector<std::string>* ignored);
  void look_into(const std::string& name, const ChunkFile& of, std::vector<std::string>* ignored);
  template <class Record>
  void read_all(int64_t step, const std::string& z_hash, FrameKind kind, int expert,
                std::vector<std::string>* ignored, const std::function<bool(Record&)>& take);
  template <class Record>
  void hand_in(Frame frame, const Record& record);
  std::string path_of(const std::string& name) const;

  const std::string run_dir_, run_id_, token_;
  const int rank_;
  bool looked_ = false;
  std::map<int64_t, std::vector<Old>> old_;  // by step
  std::set<std::string> unread_;             // files that may hold any of them
  JournalWriter writer_;
};

}  // namespace svfleet
