#include "checkpoints/frame.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "checkpoints/file_error.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

// Never renumber; docs/formats.md.
constexpr char kFrameMagic[8] = {'\x93', 's', 'v', 'f', 'j', '\r', '\n', '\x1a'};

struct Header {
  char magic[8];
  uint32_t version, kind;
  uint64_t length;
  int64_t step, chunk;
  char run_id[32], z_hash[32], token[32];
  uint64_t hash;         // XXH3-64 of the payload
  uint64_t header_hash;  // of what precedes
};
static_assert(sizeof(Header) == kFrameHeader && std::endian::native == std::endian::little);
constexpr size_t kHashed = offsetof(Header, header_hash);

constexpr uint64_t kBlock = 64 << 10;

// The expert's number stands in the bits of the chunk's that no chunk and no position needs: 0, of
// a run of one, leaves them as they were before there were several.
constexpr int kExpertShift = 48;
constexpr int64_t kMostExperts = int64_t(1) << 15;

void put(char (&to)[32], const std::string& text) {
  SVFLEET_CHECK(text.size() <= sizeof to, text, " is too long for a record");
  std::memcpy(to, text.data(), text.size());
}

std::string text_of(const char (&from)[32]) {
  return {from, strnlen(from, sizeof from)};
}

}  // namespace

void seal_frame(const Frame& frame, std::string& bytes) {
  SVFLEET_CHECK(bytes.size() >= kFrameHeader, bytes.size());
  const std::string_view payload = std::string_view(bytes).substr(kFrameHeader);
  Header header{};
  std::memcpy(header.magic, kFrameMagic, sizeof kFrameMagic);
  header.version = kFrameVersion;
  header.kind = uint32_t(frame.kind);
  header.length = payload.size();
  header.step = frame.step;
  SVFLEET_CHECK(
      frame.chunk >> kExpertShift == 0 && frame.expert >= 0 && frame.expert < kMostExperts,
      frame.chunk, " of expert ", frame.expert);
  header.chunk = frame.chunk | int64_t(frame.expert) << kExpertShift;
  put(header.run_id, frame.run_id);
  put(header.z_hash, frame.z_hash);
  put(header.token, frame.token);
  header.hash = XXH3_64bits(payload.data(), payload.size());
  header.header_hash = XXH3_64bits(&header, kHashed);
  std::memcpy(bytes.data(), &header, sizeof header);
}

FrameFile::FrameFile(std::string path) : path_(std::move(path)), file_(path_, O_RDONLY) {
  if (file_.fd() < 0) read_failed(path_, errno);
  struct stat info;
  if (fstat(file_.fd(), &info) != 0) read_failed(path_, errno);
  if (S_ISDIR(info.st_mode)) read_failed(path_, EISDIR);
  size_ = uint64_t(info.st_size);
}

std::string_view FrameFile::bytes(uint64_t at, uint64_t count) {
  count = at < size_ ? std::min(count, size_ - at) : 0;
  if (at < block_at_ || at + count > block_at_ + block_.size()) {
    const uint64_t wanted = std::min(std::max(count, kBlock), size_ - std::min(at, size_));
    const InStage reading(Stage::kDisk, double(wanted) / double(16 << 20));
    if (position_ != at && lseek(file_.fd(), off_t(at), SEEK_SET) < 0) read_failed(path_, errno);
    block_.resize(wanted);
    uint64_t done = 0;
    while (done < wanted) {
      const ssize_t got = file_system().read(file_.fd(), block_.data() + done, wanted - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) read_failed(path_, errno);
      if (got == 0) break;  // cut meanwhile
      done += uint64_t(got);
    }
    block_.resize(done);
    block_at_ = at;
    position_ = at + done;
    count = std::min(count, done);
  }
  return std::string_view(block_).substr(at - block_at_, count);
}

uint64_t FrameFile::end_of(const Frame& frame) const {
  return frame.at + kFrameHeader + frame.length;
}

FrameFile::Look FrameFile::look(uint64_t at, Frame& frame) {
  Header header;
  const std::string_view found = bytes(at, sizeof header);
  if (found.size() < sizeof header) return Look::kNone;
  std::memcpy(&header, found.data(), sizeof header);
  if (std::memcmp(header.magic, kFrameMagic, sizeof kFrameMagic) != 0 ||
      header.header_hash != XXH3_64bits(&header, kHashed))
    return Look::kNone;
  frame.version = header.version;
  frame.kind = FrameKind(header.kind);
  frame.step = header.step;
  frame.chunk = header.chunk & ((int64_t(1) << kExpertShift) - 1);
  frame.expert = int(header.chunk >> kExpertShift);
  frame.run_id = text_of(header.run_id);
  frame.z_hash = text_of(header.z_hash);
  frame.token = text_of(header.token);
  frame.at = at;
  frame.length = header.length;
  frame.hash = header.hash;
  return header.length > size_ - at - sizeof header ? Look::kTorn : Look::kWhole;
}

// Half a header, at the end of the file.
bool FrameFile::begins_torn(uint64_t at) {
  const std::string_view left = bytes(at, kFrameHeader);
  return left.size() < kFrameHeader &&
         left.substr(0, sizeof kFrameMagic) ==
             std::string_view(kFrameMagic, sizeof kFrameMagic).substr(0, left.size());
}

uint64_t FrameFile::search(uint64_t from, uint64_t to) {
  constexpr uint64_t kStretch = 1 << 20;
  Frame frame;
  while (from < to) {
    const std::string_view stretch = bytes(from, kStretch + sizeof kFrameMagic - 1);
    const size_t found = stretch.find({kFrameMagic, sizeof kFrameMagic});
    if (found == stretch.npos) {
      from += kStretch;
      continue;
    }
    from += found;
    if (from < to && look(from, frame) != Look::kNone) return from;
    ++from;
  }
  return to;
}

FoundFrames FrameFile::find() {
  FoundFrames found;
  const auto damaged = [&](uint64_t from, uint64_t to) {
    found.damaged.push_back("'" + path_ + "' is damaged from byte " + std::to_string(from) +
                            " to " + std::to_string(to));
  };
  for (uint64_t at = 0; at < size_;) {
    Frame frame, next;
    const Look here = look(at, frame);
    if (here == Look::kWhole) {
      const uint64_t end = end_of(frame);
      // What is followed by no record may have been torn, and have others inside.
      const uint64_t inside = end == size_ || look(end, next) != Look::kNone || begins_torn(end)
                                  ? end
                                  : search(at + 1, end);
      if (inside == end)
        found.frames.push_back(std::move(frame));
      else
        damaged(at, inside);
      at = inside;
      continue;
    }
    const uint64_t to = search(at + 1, size_);
    if (to == size_ && (here == Look::kTorn || begins_torn(at)))
      found.torn =
          "'" + path_ + "' ends in a record that was not finished, at byte " + std::to_string(at);
    else
      damaged(at, to);
    at = to;
  }
  return found;
}

std::string FrameFile::payload(const Frame& frame) {
  const std::string_view found = bytes(frame.at + kFrameHeader, frame.length);
  if (found.size() != frame.length || XXH3_64bits(found.data(), found.size()) != frame.hash)
    throw disk_error(origin(frame), " is damaged: its checksum is wrong");
  return std::string(found);
}

std::string FrameFile::origin(const Frame& frame) const {
  return "'" + path_ + "', record at byte " + std::to_string(frame.at) + " (step " +
         std::to_string(frame.step) + ", chunk " + std::to_string(frame.chunk) + "),";
}

}  // namespace svfleet
