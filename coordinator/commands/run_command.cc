#include "coordinator/commands/run_command.h"

#include <spdlog/spdlog.h>

#include <cstdio>
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
#include "coordinator/commands/remarks.h"
#include "coordinator/config/classifier.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/log.h"
#include "coordinator/run/progress.h"
#include "coordinator/training/fork.h"

namespace svfleet {
namespace {

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
    case Command::kAdapt:
      return "no result is kept (matrices decomposed for it are, in '" + store +
             "'); start again: the same search ends at the same mixture";
    case Command::kVerify:
      return "what was read is not noted, and nothing was changed; start again to verify all of it";
    case Command::kGenerate:
      return "replies are kept nowhere but in what was printed";
    case Command::kExport:
    case Command::kRebase:
    case Command::kTransfer:
      return "nothing was written (matrices decomposed for it are kept, in '" + store + "')";
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

void say_when_ended(const std::string& what_is_kept) {
  if (launch_rank() == 0) set_last_words("svfleet: ended by a signal: " + what_is_kept);
}

// Signals ask these to stop from the first moment on: SIGUSR1, which a job script passes on, would
// kill one that is still at its configuration.
bool is_for_jobs(Command command) {
  return command == Command::kTrain || command == Command::kDecompose;
}

// Before it is known what there is to lose.
void heed_signals_at_first(Command command) {
  if (command == Command::kSubmit)
    say_when_ended(kept(command, "", ""));
  else if (command != Command::kAfterRun)
    say_when_ended("nothing was changed");
  if (is_for_jobs(command))
    install_signal_handlers();
  else
    end_at_signals();
}

}  // namespace

int run_command(const CommandLine& line) {
  heed_signals_at_first(line.command);
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
  if (line.command == Command::kReport) return report_command(line);
  if (line.command == Command::kStop) return stop_command(line);
  if (!line.from.empty()) {
    open_messages("", launch_rank());
    return evaluate_from_command(line);
  }
  const Config config =
      load_config(config_file(line), line.overrides, is_for_training(line.command));
  check_fork(line, config);
  if (line.command == Command::kConfig) {
    const Config shown = line.adapt.set.empty()
                             ? config
                             : classifier_config(config, load_expert_set(line.adapt.set));
    if (launch_rank() == 0) std::fputs((print_config(shown) + remarks_on(shown)).c_str(), stdout);
    return kExitFinished;
  }
  open_messages("", launch_rank());  // those of train go to a file too, once the folder is ours
  for (const std::string& note : config.notes) spdlog::warn("{}", note);
  if (line.command == Command::kSubmit) return submit_command(line, config);
  if (line.quiet) hide_progress();
  // A reply that is being generated ends at once; everything else stops at a chunk boundary.
  const std::string what_is_kept = kept(line.command, config.run_dir, store_folder(config));
  say_when_ended(what_is_kept);
  if (!is_for_jobs(line.command) && line.command != Command::kGenerate) install_signal_handlers();
  const auto command = [&] {
    switch (line.command) {
      case Command::kDecompose:
        return decompose_command(line, config);
      case Command::kTrain:
        return train_command(line, config);
      case Command::kEvaluate:
        return evaluate_command(line, config);
      case Command::kAdapt:
        return adapt_command(line, config);
      case Command::kExport:
        return export_command(line, config);
      case Command::kRebase:
        return rebase_command(line, config);
      case Command::kTransfer:
        return transfer_command(line, config);
      case Command::kVerify:
        return verify_command(line, config);
      default:
        return generate_command(line, config);
    }
  };
  return end_of(line.command, command(), what_is_kept);
}

}  // namespace svfleet
