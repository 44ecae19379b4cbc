// A record in a file that only grows: header, payload and checksums, found again behind whatever is
// damaged. Format: docs/formats.md, "Journal".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/file_steps.h"

namespace svfleet {

// Others may come; a reader passes over those that it does not know. Never renumber.
enum class FrameKind : uint32_t { kChunk = 1, kReply = 2 };
inline constexpr uint32_t kFrameVersion = 2;

struct Frame {
  FrameKind kind = FrameKind::kChunk;
  int64_t step = 0, chunk = 0;  // of a reply, instead of the chunk: the position of its prompt
  int expert = 0;               // whose it is, of several that are trained together
  // At most 32 bytes each: the run, the policy, and the owner (owner.h) whose process wrote it. A
  // disk that loses power may show blocks of another file at the end of this one.
  std::string run_id, z_hash, token;
  // As it was found.
  uint64_t at = 0;      // the header's first byte in the file
  uint64_t length = 0;  // bytes of the payload
  uint64_t hash = 0;    // of the payload
  uint32_t version = 0;

  bool is(FrameKind wanted) const { return version == kFrameVersion && kind == wanted; }
};

inline constexpr size_t kFrameHeader = 152;  // bytes
// Fills in the header of `bytes`, which has kFrameHeader bytes of room and then the payload.
void seal_frame(const Frame& frame, std::string& bytes);

struct FoundFrames {
  std::vector<Frame> frames;  // whole as far as their headers tell, in the file's order
  // One line each.
  std::vector<std::string> damaged;
  std::string torn;  // the last record is not finished: of a writer that was killed, or that writes
};

// One file, as long as it is when it is opened. Errors as those of read_file(). Not thread-safe.
class FrameFile {
 public:
  explicit FrameFile(std::string path);

  // Reads headers, and more only where something is damaged.
  FoundFrames find();
  // Error(kExitDisk) when it is not what was written.
  std::string payload(const Frame& frame);
  // "'PATH', record at byte N (step S, chunk C),": for messages.
  std::string origin(const Frame& frame) const;

 private:
  enum class Look { kNone, kTorn, kWhole };  // what is at a place

  std::string_view bytes(uint64_t at, uint64_t count);  // fewer at the end
  Look look(uint64_t at, Frame& frame);
  uint64_t search(uint64_t from, uint64_t to);  // the next header, or `to`
  uint64_t end_of(const Frame& frame) const;
  bool begins_torn(uint64_t at);

  const std::string path_;
  const File file_;
  uint64_t size_ = 0;
  std::string block_;  // of the file, from block_at_ on
  uint64_t block_at_ = 0, position_ = 0;
};

}  // namespace svfleet
