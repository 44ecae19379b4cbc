#include "coordinator/run/printed.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "comm/error.h"

namespace svfleet {

void check_printed() {
  errno = 0;
  const bool failed = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !failed) return;
  if (errno == 0) {  // it failed earlier: once more, to learn why
    std::clearerr(stdout);
    std::putchar('\n');
    std::fflush(stdout);
  }
  throw disk_error("cannot write to standard output",
                   errno ? std::string(": ") + std::strerror(errno) : "",
                   "; send it elsewhere and start again: nothing saved so far is lost");
}

}  // namespace svfleet
