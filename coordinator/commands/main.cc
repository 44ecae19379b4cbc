// svfleet: the program, and the one place where errors end.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "comm/error.h"
#include "comm/group.h"
#include "comm/wait.h"
#include "coordinator/commands/run_command.h"
#include "coordinator/config/command_line.h"
#include "coordinator/run/printed.h"
#include "coordinator/run/progress.h"
#include "worker/failure.h"

namespace svfleet {
namespace {

// A file that is opened later must not get the number of a standard stream that was closed: what is
// printed would go there. To this one for standard output nothing can be written.
void keep_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0) (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

volatile std::sig_atomic_t code_at_end = kExitInternal;

// Ranks often fail together, all with the same line: rank 0 speaks first, and its end takes the
// others with it. A rank that fails alone speaks after a moment. Whoever the launcher ends by
// SIGTERM meanwhile still has its own code: a job's is the highest of all ranks.
int report(int code, std::string message) {
  for (char& c : message)  // a name out of a damaged file may hold anything
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  end_within(kEndLimit_s, "svfleet: " + message, code);
  const int rank = launch_rank();
  if (rank != 0) {
    code_at_end = code;
    std::signal(SIGTERM, [](int) { _exit(code_at_end); });
    sleep(5);
  }
  print_line("svfleet: " + message + (rank != 0 ? " (rank " + std::to_string(rank) + ")" : ""));
  return code;
}

}  // namespace
}  // namespace svfleet

int main(int argc, char** argv) {
  using namespace svfleet;
  int code = kExitInternal;
  try {
    keep_standard_streams();
    // Threads with heaps of their own each keep what the others could use: on the quickstart's
    // model a hundred megabytes.
    mallopt(M_ARENA_MAX, 1);
    code = run_command(parse_command_line(argc, argv));
    if (code == kExitFinished) check_printed();
    end_within(kEndLimit_s, "svfleet: this process could not end by itself", code);
    if (code == kExitFinished) {
      // All that must end has ended. libtorch would take its operators apart one by one, which is a
      // third of what a short command takes.
      std::fflush(nullptr);
      _exit(code);
    }
  } catch (...) {
    const Error error = failure_of(std::current_exception(), Device{}).error;
    code = report(error.code(), error.what());
  }
  return code;
}
