// What the user typed, checked as far as that is possible without reading a file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/job_script.h"

namespace svfleet {

enum class Command {
  kDecompose,
  kTrain,
  kEvaluate,
  kGenerate,
  kAdapt,
  kExport,
  kRebase,
  kTransfer,
  kSubmit,
  kAfterRun,
  kStatus,
  kReport,
  kStop,
  kVerify,
  kConfig,
  kHash
};

// submit: what differs from site to site, as typed.
struct SiteWords {
  std::string mpi, prelude, job_template;  // a type of srun's; files
  std::vector<std::string> sbatch;         // options of sbatch
  bool print_template = false;
};

// export, rebase and transfer: how an expert is given to others.
struct ShareRequest {
  std::string format;                // merged, peft or native
  std::string base_model, revision;  // what others call the base; empty: found out
  int64_t max_rank = 64;             // of a LoRA
  std::string store;                 // rebase: the other factor store
  std::string control;               // transfer: shuffled, reversed or nothing
};

// adapt, evaluate and generate with an expert set; config has its `set`.
struct AdaptRequest {
  std::string set;       // its YAML file
  std::string strategy;  // prompt, classifier, few_shot or nothing
  std::string shots;     // few_shot: JSONL
  std::string budget = "full";
  double most = 1;  // of the experts' shares together
};

struct CommandLine {
  // Not empty: --help or --version was asked for; print it to stdout and exit with 0.
  std::string text;

  Command command = Command::kConfig;
  std::string config_file;             // not of commands that take a RUN
  std::vector<std::string> overrides;  // "train.steps=5", in order
  bool json = false;                   // one JSON object on stdout instead of text
  bool quiet = false;                  // no progress on stderr

  // train and submit: resume on hardware or a build that may give other bits, and say so in the
  // log.
  bool allow_different_hardware = false;
  std::string fork;  // train and submit: PARENT or PARENT@STEP, see coordinator/training/fork.h

  // evaluate and generate: expert files; the base model always takes part. The one of export,
  // rebase and transfer.
  std::vector<std::string> experts;
  AdaptRequest adapt;
  // evaluate: a JSONL file of every item and reply; OUT of those three; adapt: the mixture;
  // report: the page.
  std::string out;
  std::vector<std::string> from;  // evaluate: such files, to be told again instead
  bool controls = false;          // evaluate: experts that must fail, beside each expert

  std::vector<std::string> prompts;  // generate
  std::optional<int64_t> max_new_tokens;
  std::optional<double> temperature;

  ShareRequest share;  // export, rebase, transfer

  bool reference = false;  // config: docs/config.md instead of a configuration

  JobRequest job;                // submit; after-run has its patience and exclude
  SiteWords site;                // submit
  bool dry_run = false;          // submit: print the script, submit nothing
  std::string after_job, store;  // after-run
  int64_t after_restarts = 0, after_start = 0, after_code = 0, after_nodes = 0;
  bool not_again = false, plan = false;

  bool take_back = false;  // stop

  std::string path;               // hash, after-run, status, stop
  std::vector<std::string> runs;  // report
};

// Wrong usage throws Error(kExitUser): one line that ends with the help to read.
CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace svfleet
