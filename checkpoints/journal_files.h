// The files in RUN/chunks, by name and by the headers of their records: for whoever counts, checks
// or removes finished chunks. Reading and writing them: journal.h.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// step-NNNNNN-rank-NNNN-TOKEN.journal, of one rank of one owner and the steps from one checkpoint
// to the next; or step-NNNNNN-chunk-NNNN.h5, of an older svfleet, which is no longer read.
struct ChunkFile {
  int64_t step = 0;   // of a journal, that of its first record: none is earlier
  int number = 0;     // of the rank, or of the chunk
  std::string token;  // of the owner (owner.h); empty: one chunk
};
std::optional<ChunkFile> chunk_file(std::string_view name);  // nothing for another name
std::string journal_name(int64_t step, int rank, const std::string& token);

std::string chunks_folder(const std::string& run_dir);

// How many chunks of `from_step` and the steps after it are finished, as headers tell: a few
// bytes of each are read. One that is there twice counts once, one that is torn does
// not.
int64_t count_chunks(const std::string& run_dir, int64_t from_step);
// The same of replies, in chunks that are finished or not.
int64_t count_replies(const std::string& run_dir, int64_t from_step);

// Reads all of a file: Error(kExitDisk) with what is damaged first. The end of a record that is
// still being written, or of a writer that was killed, is no damage.
void check_chunk_file(const std::string& path);

// Removes the files of steps before `step` but those named in `keep`.
void clear_chunks_before(const std::string& run_dir, int64_t step,
                         const std::set<std::string>& keep = {});

}  // namespace svfleet
