// svfleet: commands, and the one place where errors end.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoints/content_hash.h"
#include "cluster/job_template.h"
#include "cluster/signals.h"
#include "comm/error.h"
#include "comm/group.h"
#include "comm/wait.h"
#include "coordinator/command_line.h"
#include "coordinator/commands.h"
#include "coordinator/fork.h"
#include "coordinator/progress.h"
#include "coordinator/run_log.h"
#include "worker/failure.h"

namespace svfleet {
namespace {

int run(const CommandLine& line) {
  if (!line.text.empty()) {
    if (launch_rank() == 0) std::fputs(line.text.c_str(), stdout);
    return kExitFinished;
  }
  if (line.command == Command::kHash) {
    if (launch_rank() != 0) return kExitFinished;
    const std::string hash = hash_path(line.path);
    const nlohmann::json report = {{"path", line.path}, {"hash", hash}};
    std::printf("%s\n", line.json ? report.dump().c_str() : hash.c_str());
    return kExitFinished;
  }
  if (line.command == Command::kConfig && line.reference) {
    if (launch_rank() == 0) std::fputs(config_reference().c_str(), stdout);
    return kExitFinished;
  }
  if (line.command == Command::kSubmit && line.site.print_template) {
    std::fputs(default_template().c_str(), stdout);
    return kExitFinished;
  }
  if (line.command == Command::kAfterRun) return after_run_command(line);
  if (line.command == Command::kStatus) return status_command(line);
  if (line.command == Command::kStop) return stop_command(line);
  const Config config = load_config(config_file(line), line.overrides);
  check_fork(line, config);
  if (line.command == Command::kConfig) {
    if (launch_rank() == 0) std::fputs(print_config(config).c_str(), stdout);
    return kExitFinished;
  }
  if (line.command == Command::kSubmit) return submit_command(line, config);
  open_messages("", launch_rank());  // those of train go to a file too, once the folder is ours
  if (line.quiet) hide_progress();
  // A reply that is being generated ends at once; everything else stops at a chunk boundary.
  if (line.command != Command::kGenerate) install_signal_handlers();
  switch (line.command) {
    case Command::kDecompose:
      return decompose_command(line, config);
    case Command::kTrain:
      return train_command(line, config);
    case Command::kEvaluate:
      return evaluate_command(line, config);
    case Command::kVerify:
      return verify_command(line, config);
    default:
      return generate_command(line, config);
  }
}

// From the last word of a command to the end of the process: standard error or a file may hang.
constexpr double kEndLimit_s = 30;

volatile std::sig_atomic_t code_at_end = kExitInternal;

// Ranks often fail together, all with the same line: rank 0 speaks first, and its end takes the
// others with it. A rank that fails alone speaks after a moment. Whoever the launcher ends by
// SIGTERM meanwhile still has its own code: a job's is the highest of all ranks.
int report(int code, const std::string& message) {
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
    code = run(parse_command_line(argc, argv));
    end_within(kEndLimit_s, "svfleet: this process could not end by itself", code);
    if (code == kExitFinished) return code;
  } catch (...) {
    const Error error = failure_of(std::current_exception(), Device{}).error;
    code = report(error.code(), error.what());
  }
  return code;
}
