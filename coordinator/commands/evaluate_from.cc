// svfleet evaluate --from: the table of files that evaluate --out has kept, without model or GPU.
#include "comm/error.h"
#include "comm/group.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/evaluation_file.h"
#include "coordinator/commands/evaluation_table.h"

namespace svfleet {

int evaluate_from_command(const CommandLine& line) {
  if (launch_rank() != 0) return kExitFinished;
  tell_evaluation(read_measurement(line.from), line.json);
  return kExitFinished;
}

}  // namespace svfleet
