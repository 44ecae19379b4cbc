// The one error type for everything that a user, a file, a node or a disk can cause, and the check
// for our own bugs. Thrown anywhere, caught once in main, printed as one line.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace svfleet {

// Process exit codes; documented in docs/exit_codes.md, never renumber.
enum ExitCode : int {
  kExitFinished = 0,
  kExitInternal = 70,    // a bug of ours, or an unknown exception
  kExitUser = 2,         // configuration, model, data or command line: a person must change it
  kExitDisk = 74,        // reading or writing failed: nothing already saved is lost
  kExitRequeue = 75,     // stopped early on purpose or by a fault: start me again
  kExitNoProgress = 76,  // died repeatedly at the same place: do not start me again
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, bool of_node = false)
      : std::runtime_error(message), code_(code), of_node_(of_node) {}
  ExitCode code() const { return code_; }
  // The fault is this machine's own: its devices, its memory, its way to a disk. The same work may
  // well be done on another one.
  bool of_node() const { return of_node_; }

 private:
  ExitCode code_;
  bool of_node_;
};

// throw user_error("cannot read '", path, "': ", reason, "; check the path in model.path")
// The message says what is wrong, where, and what to do, on one line.
template <class... Parts>
Error make_error(ExitCode code, const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return Error(code, out.str());
}
template <class... Parts>
Error user_error(const Parts&... parts) {
  return make_error(kExitUser, parts...);
}
template <class... Parts>
Error disk_error(const Parts&... parts) {
  return make_error(kExitDisk, parts...);
}

template <class... Parts>
Error node_error(ExitCode code, const Parts&... parts) {
  return Error(code, make_error(code, parts...).what(), true);
}

// How a piece of work failed.
struct Failure {
  Error error;
  // It may be a bug of ours that looks like a fault of the machine: an illegal address on a GPU, a
  // failed assert there. It is one when the same work fails on a second host too.
  bool maybe_ours = false;
};

// SVFLEET_CHECK(rows == ids.size(), rows, " rows for ", ids.size(), " ids"): a broken invariant of
// our own; the message carries both operands.
#define SVFLEET_CHECK(condition, ...)                                                            \
  do {                                                                                           \
    if (!(condition))                                                                            \
      throw ::svfleet::make_error(::svfleet::kExitInternal, "internal error at ", __FILE__, ":", \
                                  __LINE__, ": " #condition ": ", __VA_ARGS__);                  \
  } while (0)

}  // namespace svfleet
