#include "checkpoints/own_lines.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/hash.h"
#include "checkpoints/process.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

constexpr char kLineFormat[] = "svfleet-line";
constexpr int kLineVersion = 1;  // docs/formats.md; never renumber

struct LastLine {
  std::string by, file;  // the log's name in the folder
  int64_t at = 0;        // its first byte
  std::string bytes;     // with the newline
};

std::string path_in(const std::string& folder) {
  return folder + "/last-line";
}

std::string encode(const LastLine& line) {
  const nlohmann::ordered_json head = {{"format", kLineFormat}, {"version", kLineVersion},
                                       {"by", line.by},         {"file", line.file},
                                       {"at", line.at},         {"hash", hash_bytes(line.bytes)}};
  return head.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n" + line.bytes;
}

// Nothing when it is torn: it is not synced.
std::optional<LastLine> decode(const std::string& text) {
  const size_t end = text.find('\n');
  if (end == text.npos) return std::nullopt;
  try {
    const auto head = nlohmann::json::parse(text.substr(0, end));
    LastLine line{head.at("by"), head.at("file"), head.at("at"), text.substr(end + 1)};
    if (head.at("format") != kLineFormat || head.at("version") != kLineVersion ||
        head.at("hash") != hash_bytes(line.bytes) || line.file.find('/') != line.file.npos)
      return std::nullopt;
    return line;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

int64_t size_of(const File& file, const std::string& path) {
  struct stat info;
  if (fstat(file.fd(), &info) != 0) read_failed(path, errno);
  return info.st_size;
}

// Without its torn end, which an earlier crash or a full disk has left. A log is not cut in place:
// that would also cut what a new owner has appended.
void drop_torn_end(const std::string& path) {
  const std::string text = read_file(path);
  write_file_atomic(path, std::string_view(text).substr(0, text.rfind('\n') + 1));
}

bool ends_whole(const File& file, const std::string& path, int64_t size) {
  char last = '\n';
  if (size > 0 && pread(file.fd(), &last, 1, size - 1) != 1) read_failed(path, errno);
  return last == '\n';
}

void write_at(const File& file, const std::string& path, int64_t at, std::string_view bytes) {
  if (lseek(file.fd(), at, SEEK_SET) != at) write_failed(path, "lseek", errno, bytes.size());
  if (const int error = write_all(file.fd(), bytes))
    write_failed(path, "write", error, bytes.size());
}

}  // namespace

std::string lines_by(const std::string& host, int64_t pid, int64_t process_start) {
  return host + "-" + std::to_string(pid) + "-" + std::to_string(process_start);
}

void append_own_line(const std::string& path, std::string_view line) {
  const InStage appending_to_it(Stage::kDisk);
  SVFLEET_CHECK(line.find('\n') == line.npos, "a line with a newline inside for ", path);
  static std::mutex appending;  // one last line at a time
  std::lock_guard<std::mutex> lock(appending);
  check_guard(path);  // the file may be new
  auto file = std::make_unique<File>(path, O_RDWR | O_CREAT);
  if (file->fd() < 0) write_failed(path, "open", errno, line.size());
  int64_t end = size_of(*file, path);
  if (!ends_whole(*file, path, end)) {
    drop_torn_end(path);
    file = std::make_unique<File>(path, O_RDWR);
    if (file->fd() < 0) write_failed(path, "open", errno, line.size());
    end = size_of(*file, path);
  }
  const size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "." : path.substr(0, slash);
  static const int64_t start = process_start(getpid());
  const LastLine last{lines_by(host_name(), getpid(), start), path.substr(slash + 1), end,
                      std::string(line) + "\n"};
  // Has no effect once a new owner has taken the temporary file away.
  const std::string announced = path_in(folder), bytes = encode(last);
  rename_temporary(write_temporary(announced, bytes, Synced::kNo), announced, bytes.size(),
                   Synced::kNo);
  write_at(*file, path, end, last.bytes);
  if (file->close() != 0) write_failed(path, "close", errno, last.bytes.size());
}

bool settle_last_line(const std::string& folder, const std::string& by) {
  if (!file_exists(path_in(folder))) return false;
  const std::optional<LastLine> last = decode(read_file(path_in(folder)));
  if (!last || last->by != by) return false;
  const std::string path = folder + "/" + last->file;
  if (!file_exists(path)) return false;
  check_guard(path);
  File file(path, O_RDWR);
  if (file.fd() < 0) write_failed(path, "open", errno, last->bytes.size());
  const int64_t there = size_of(file, path) - last->at;
  if (there < 0 || there > int64_t(last->bytes.size())) return false;
  std::string found(size_t(there), '\0');
  if (there > 0 && pread(file.fd(), found.data(), found.size(), last->at) != there)
    read_failed(path, errno);
  if (!last->bytes.starts_with(found)) return false;
  if (found != last->bytes) write_at(file, path, last->at, last->bytes);
  if (file.close() != 0) write_failed(path, "close", errno, last->bytes.size());
  return true;
}

}  // namespace svfleet
