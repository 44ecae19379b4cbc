// svfleet stop: asks a run to end after its next checkpoint, or takes that back.
#include <cstdio>

#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/run/status.h"
#include "coordinator/run/stop_request.h"

namespace svfleet {

int stop_command(const CommandLine& line) {
  const Status now = look_at_run(line.path);
  if (line.take_back) {
    withdraw_end_request(now.path);
    std::printf("%s\n", now.stop_asked ? "the stop is taken back" : "no stop was asked for");
    return kExitFinished;
  }
  if (now.finished && !now.live)
    throw user_error("the run in '", now.path, "' is finished; there is nothing to stop");
  if (!now.owner && !now.account.waits)
    throw user_error("the run in '", now.path, "' is not running (", now.state,
                     "); there is nothing to stop");
  request_end(now.path);
  std::printf("%s\n", now.live ? "the run ends after the step that it is in, with a checkpoint"
                               : "the run is not running now; it ends as soon as it runs again "
                                 "('svfleet stop --take-back' changes that)");
  return kExitFinished;
}

}  // namespace svfleet
