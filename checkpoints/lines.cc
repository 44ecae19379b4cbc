// Logs of lines: appended one at a time, read one at a time.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/file_system.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {

void append_line(const std::string& path, std::string_view line) {
  const InStage appending_to_it(Stage::kDisk);
  SVFLEET_CHECK(line.find('\n') == line.npos, "a line with a newline inside for ", path);
  // The look below must not see another thread's line half-written.
  static std::mutex appending;
  std::lock_guard<std::mutex> lock(appending);
  check_guard(path);  // the file may be new
  File file(path, O_RDWR | O_CREAT | O_APPEND);
  if (file.fd() < 0) write_failed(path, "open", errno, line.size());
  check_guard(path);
  struct stat info;
  if (fstat(file.fd(), &info) != 0) read_failed(path, errno);
  char last = '\n';
  if (info.st_size > 0) {
    const ssize_t got = pread(file.fd(), &last, 1, info.st_size - 1);
    if (got != 1) read_failed(path, got < 0 ? errno : EIO);
  }
  // Nothing is cut, nor after a write that fails: behind a line that looks torn, or is now, another
  // process may have appended one meanwhile.
  const std::string bytes = (last == '\n' ? "" : "\n") + std::string(line) + "\n";
  if (const int error = write_all(file.fd(), bytes))
    write_failed(path, "write", error, bytes.size());
  if (file.close() != 0) write_failed(path, "close", errno, bytes.size());
}

void read_lines(const std::string& path, const std::function<void(std::string_view line)>& read) {
  if (!file_exists(path)) return;
  File file(path, O_RDONLY);
  if (file.fd() < 0) read_failed(path, errno);
  std::string bytes;
  constexpr size_t kBlock = size_t{1} << 20;
  while (true) {
    const size_t before = bytes.size();
    bytes.resize(before + kBlock);
    ssize_t got = 0;
    {
      const InStage reading(Stage::kDisk);
      got = file_system().read(file.fd(), bytes.data() + before, kBlock);
    }
    if (got < 0 && errno != EINTR) read_failed(path, errno);
    bytes.resize(before + static_cast<size_t>(std::max<ssize_t>(0, got)));
    if (got == 0) return;  // what is left has no end
    size_t begin = 0;
    for (size_t end; (end = bytes.find('\n', std::max(begin, before))) != bytes.npos;
         begin = end + 1)
      read(std::string_view(bytes).substr(begin, end - begin));
    bytes.erase(0, begin);
  }
}

}  // namespace svfleet
