// svfleet status: tells people and programs how a run stands.
#include <cstdio>

#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/status_json.h"
#include "coordinator/commands/status_text.h"
#include "coordinator/run/json_line.h"

namespace svfleet {

int status_command(const CommandLine& line) {
  const Status now = look_at_run(line.path);
  if (line.json)
    std::printf("%s\n", json_line(to_json(now)).c_str());
  else
    print_status(now);
  return kExitFinished;
}

}  // namespace svfleet
