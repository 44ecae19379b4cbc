// svfleet: commands, and the one place where errors end.
#include <fcntl.h>
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
#include "coordinator/base/base.h"
#include "coordinator/commands/commands.h"
#include "coordinator/config/command_line.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/log.h"
#include "coordinator/run/printed.h"
#include "coordinator/run/progress.h"
#include "coordinator/training/fork.h"
#include "worker/failure.h"

namespace svfleet {
namespace {

// From the last word of a command to the end of the process: standard error or a file may hang.
constexpr double kEndLimit_s = 30;

// What a command that a signal stops leaves behind.
std::string kept(Command command, const std::string& run_dir, const std::string& store) {
  switch (command) {
    case Command::kTrain:
      return "finished steps and chunks are kept in '" + run_dir + "'; start again to go on";
    case Command::kDecompose:
      return "the matrices decomposed so far are kept in '" + store + "'; start again to go on";
    case Command::kEvaluate:
      return "no result is kept (matrices decomposed for it are, in '" + store +
             "'); start again to evaluate from the beginning";
    case Command::kVerify:
      return "what was read is not noted, and nothing was changed; start again to verify all of it";
    case Command::kGenerate:
      return "replies are kept nowhere but in what was printed";
    case Command::kSubmit:
      return "no job was handed in";
    default:
      return "nothing was changed";
  }
}

// The end of a command that stopped early, in one line, from rank 0. A training run says in which
// step.
int end_of(Command command, int code, const std::string& what_is_kept) {
  if (code != kExitRequeue || command == Command::kTrain || launch_rank() != 0) return code;
  const std::string signal = stop_signal_name();
  const std::string words =
      "svfleet: stopped " + (signal.empty() ? "early" : "by " + signal) + ": " + what_is_kept;
  end_within(kEndLimit_s, words, code);
  print_line(words);
  return code;
}

// Whether settings of training that do not go together are an error. `config` checks them all.
bool is_for_training(Command command) {
  return command == Command::kTrain || command == Command::kSubmit || command == Command::kConfig;
}

int run(const CommandLine& line) {
  const auto say_when_ended = [&](const std::string& what_is_kept) {
    if (launch_rank() == 0) set_last_words("svfleet: ended by a signal: " + what_is_kept);
  };
  if (line.command == Command::kSubmit)
    say_when_ended(kept(line.command, "", ""));
  else if (line.command != Command::kAfterRun)
    say_when_ended("nothing was changed");
  end_at_signals();
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
  const Config config =
      load_config(config_file(line), line.overrides, is_for_training(line.command));
  check_fork(line, config);
  if (line.command == Command::kConfig) {
    if (launch_rank() == 0) std::fputs(print_config(config).c_str(), stdout);
    return kExitFinished;
  }
  if (line.command == Command::kSubmit) return submit_command(line, config);
  open_messages("", launch_rank());  // those of train go to a file too, once the folder is ours
  if (line.quiet) hide_progress();
  // A reply that is being generated ends at once; everything else stops at a chunk boundary.
  const std::string what_is_kept = kept(line.command, config.run_dir, store_folder(config));
  say_when_ended(what_is_kept);
  if (line.command != Command::kGenerate) install_signal_handlers();
  const auto command = [&] {
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
  };
  return end_of(line.command, command(), what_is_kept);
}

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
    code = run(parse_command_line(argc, argv));
    if (code == kExitFinished) check_printed();
    end_within(kEndLimit_s, "svfleet: this process could not end by itself", code);
    if (code == kExitFinished) return code;
  } catch (...) {
    const Error error = failure_of(std::current_exception(), Device{}).error;
    code = report(error.code(), error.what());
  }
  return code;
}
