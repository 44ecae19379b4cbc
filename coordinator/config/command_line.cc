#include "coordinator/config/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <limits>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/evaluate_options.h"
#include "coordinator/config/job_options.h"
#include "coordinator/config/reader.h"
#include "rl/nearest.h"

#ifndef SVFLEET_VERSION
#error "SVFLEET_VERSION comes from CMakeLists.txt"
#endif

namespace svfleet {
namespace {

constexpr char kAbout[] =
    "svfleet trains expert vectors (one scale for each singular value of each weight) for large "
    "language models by reinforcement learning, alone or over many ranks.";

constexpr char kExamples[] = R"(Start here:
  svfleet decompose examples/quickstart.yaml     singular bases of the model, once
  svfleet train     examples/quickstart.yaml     an expert; the same command resumes
  svfleet evaluate  examples/quickstart.yaml --expert EXPERT.safetensors
  svfleet generate  examples/quickstart.yaml --expert EXPERT.safetensors "Which is largest: 3 9 4"

On several ranks, with the same result bit by bit:
  mpirun -n 2 --bind-to none svfleet train examples/quickstart.yaml
  srun --mpi=pmix svfleet train run.yaml
  svfleet submit run.yaml --nodes 8 --partition preemptible    a job that survives preemption
  svfleet status runs/a                          what a run does, from any machine

Exit codes: 0 finished, 2 wrong input, 70 internal error, 74 disk, 75 start me again, 76 no progress.
svfleet COMMAND --help explains a command; svfleet config FILE prints every setting.)";

constexpr char kDecomposeFooter[] =
    R"(Shares the matrices among all ranks and writes each to its own file in svd.store, by default
<model.path>.factors. Finished matrices are skipped, so a run that was stopped goes on.

Examples:
  svfleet decompose run.yaml
  svfleet decompose run.yaml --set svd.targets=all --set svd.storage=bfloat16
  mpirun -n 4 --bind-to none svfleet decompose run.yaml)";

constexpr char kTrainFooter[] =
    R"(Everything is written to run_dir: checkpoints/, experts/, log.jsonl, rollouts.jsonl, svfleet.log.
When run_dir holds a checkpoint, training goes on from the newest good one, on any number of ranks.
For a new start choose a new run_dir. --fork starts a child run from a checkpoint of another run, with
changed settings; the same command again goes on with the child.

Examples:
  svfleet train run.yaml
  svfleet train run.yaml --set run_dir=runs/seed1 --set train.seed=1
  svfleet train --fork runs/a@20 --set run_dir=runs/b --set train.learning_rate=0.002
  mpirun -n 2 --bind-to none svfleet train run.yaml)";

constexpr char kGenerateFooter[] =
    R"(Prints the answers of the base model and of each expert, as they are produced. A prompt is a user
message to the first task: its system message, prefill, stop texts and length apply, its prompt template
and solved examples do not. evaluate.seed draws, where evaluate.temperature or --temperature is above 0.

Examples:
  svfleet generate run.yaml "What is the capital of France?"
  svfleet generate run.yaml --json - < questions.txt
  svfleet generate run.yaml --expert runs/a/experts/best.safetensors --temperature 0.7 "Tell a joke")";

constexpr char kStatusFooter[] =
    R"(Reads the run folder only: it works while the run goes on and after its end, from any machine that
sees the folder. Shows progress, rate, time left, the last steps, every start with how it ended, and
where the time went.

Examples:
  svfleet status runs/a
  svfleet status runs/a --json)";

constexpr char kStopFooter[] =
    R"(The run ends with code 0 after the step that it is in, with a checkpoint, and its job is not started
again. The same train or submit command goes on with it.

Examples:
  svfleet stop runs/a
  svfleet stop runs/a --take-back)";

constexpr char kVerifyFooter[] =
    R"(Reads every tensor of the model, every factor, checkpoint, finished chunk and expert of the run, and
compares hashes and checksums. Changes nothing; what is damaged is listed, and the exit code is 74.

Examples:
  svfleet verify run.yaml
  svfleet verify runs/a --json
  mpirun -n 4 --bind-to none svfleet verify run.yaml)";

constexpr char kConfigFooter[] =
    R"(Reads and checks FILE and prints the effective configuration: YAML with a comment above every
setting, which can be used as a configuration itself.

Examples:
  svfleet config run.yaml
  svfleet config run.yaml --set train.steps=5 > new.yaml
  svfleet config --reference)";

constexpr char kHashFooter[] =
    R"(Prints one hash of the content of an expert, a checkpoint, a factor store or a run folder. It does
not depend on names, times or other metadata of files: equal results have equal hashes.

Examples:
  svfleet hash runs/a
  svfleet hash runs/a/checkpoints/step-000048.h5)";

// CLI11's messages may take several lines: the first one says what is wrong.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

void add_config(CLI::App* command, CommandLine* line, bool required = true) {
  command
      ->add_option("CONFIG", line->config_file,
                   "YAML file (see examples/quickstart.yaml), or the folder of a run")
      ->required(required)
      ->type_name("");
  command
      ->add_option("--set", line->overrides,
                   "Override a setting, such as train.steps=5; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
}

void add_fork(CLI::App* command, CommandLine* line) {
  command
      ->add_option("--fork", line->fork,
                   "Start a child run from a checkpoint of another run, with its configuration "
                   "where CONFIG is left out; give the child a run_dir")
      ->type_name("RUN[@STEP]");
}

void add_reporting(CLI::App* command, CommandLine* line) {
  command->add_flag("--json", line->json, "Report as one JSON object on stdout");
  command->add_flag("--quiet", line->quiet, "No progress on stderr");
}

void add_experts(CLI::App* command, CommandLine* line) {
  command->add_option("--expert", line->experts, "Expert file; may be repeated")
      ->type_name("FILE")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
}

// What a word that begins with - was a slip of, if it was; `app` or the command that was chosen.
std::string meant(const CLI::App& app, const std::string& word) {
  const size_t begin = word.find_first_not_of('-');
  if (begin == 0 || begin == word.npos) return "";
  const std::string name = word.substr(begin, word.find('=') - begin);
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen[0];
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& known : option->get_lnames()) names.push_back(known);
  if (std::find(names.begin(), names.end(), name) != names.end())
    return "; give --" + name + " after '" + command.get_name() + "'";
  const std::string near = nearest(name, names);
  return near.empty() ? "" : ", did you mean --" + near + "?";
}

// CLI11 names them from the last to the first.
std::string unexpected(const CLI::App& app, int argc, const char* const* argv) {
  std::vector<std::string> left = app.remaining(true), words;
  for (int i = 1; i < argc; ++i)
    if (const auto found = std::find(left.begin(), left.end(), argv[i]); found != left.end()) {
      words.push_back(*found);
      left.erase(found);
    }
  std::string text = words.size() == 1 ? "The following argument was not expected:"
                                       : "The following arguments were not expected:";
  for (const std::string& word : words) text += " " + word;
  for (const std::string& word : words)
    if (const std::string more = meant(app, word); !more.empty()) return text + more;
  return text;
}

// docs/commands.md.
std::string reference(CLI::App& app) {
  std::string out = R"(# Commands

<!-- Generated by `svfleet --reference`; a test compares this page with the program. -->

What `svfleet COMMAND --help` says. Settings of the configuration: [config.md](config.md); exit codes:
[exit_codes.md](exit_codes.md); what `--json` and `--out` write: [formats.md](formats.md#what---json-prints).

```
)" + app.help() + "```\n";
  for (const CLI::App* command : app.get_subcommands({}))
    out += "\n## " + command->get_name() + "\n\n```\n" + command->help("svfleet") + "```\n";
  return out;
}

// A command, chosen by its name.
CLI::App* add(CLI::App& app, CommandLine& line, Command value, const char* name, const char* about,
              const char* footer) {
  CLI::App* command = app.add_subcommand(name, about);
  command->footer(footer);
  command->final_callback([&line, value] { line.command = value; });
  return command;
}

// All commands with their options.
void add_evaluate(CLI::App& app, CommandLine& line) {
  CLI::App* evaluate = add(app, line, Command::kEvaluate, "evaluate",
                           "Measure the accuracy of the base model and of experts", "");
  add_config(evaluate, &line, false);
  add_experts(evaluate, &line);
  add_evaluate_options(evaluate, &line);
  add_reporting(evaluate, &line);
}

void add_generate(CLI::App& app, CommandLine& line) {
  CLI::App* generate = add(app, line, Command::kGenerate, "generate",
                           "Answer prompts with the base model and experts", kGenerateFooter);
  add_config(generate, &line);
  generate->add_option("PROMPT", line.prompts, "Prompts to answer; - stands for the lines of stdin")
      ->required()
      ->type_name("");
  add_experts(generate, &line);
  generate->add_option("--max-new-tokens", line.max_new_tokens, "Longest answer, in tokens")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}).description(""));
  generate->add_option("--temperature", line.temperature, "0 = greedy")
      ->type_name("T")
      ->check(CLI::Range(0.0, 100.0).description(""));
  add_reporting(generate, &line);
}

void add_commands(CLI::App& app, CommandLine& line) {
  CLI::App* decompose = add(app, line, Command::kDecompose, "decompose",
                            "Compute the singular bases of the model, once", kDecomposeFooter);
  add_config(decompose, &line);
  add_reporting(decompose, &line);

  CLI::App* train = add(app, line, Command::kTrain, "train", "Train an expert, or go on with a run",
                        kTrainFooter);
  add_config(train, &line, false);
  add_fork(train, &line);
  add_reporting(train, &line);
  train->add_flag("--allow-different-hardware", line.allow_different_hardware,
                  "Resume although processor, build or threads differ: the result may differ in "
                  "its last bits");

  add_evaluate(app, line);
  add_generate(app, line);

  CLI::App* submit = add(app, line, Command::kSubmit, "submit",
                         "Have Slurm train on several nodes, through preemptions", "");
  add_config(submit, &line, false);
  add_fork(submit, &line);
  add_submit_options(submit, &line);
  submit->add_flag("--allow-different-hardware", line.allow_different_hardware,
                   "Go on also on nodes with another processor: see train");

  CLI::App* after = add(app, line, Command::kAfterRun, "after-run",
                        "For job scripts: how the run ended, and whether to start it again", "");
  add_after_run_options(after, &line);

  CLI::App* status = add(app, line, Command::kStatus, "status",
                         "Show what a run is doing, and where its time went", kStatusFooter);
  status->add_option("RUN", line.path, "Run folder")->required()->type_name("");
  status->add_flag("--json", line.json, "Report as one JSON object on stdout");

  CLI::App* stop =
      add(app, line, Command::kStop, "stop", "End a run after its next checkpoint", kStopFooter);
  stop->add_option("RUN", line.path, "Run folder")->required()->type_name("");
  stop->add_flag("--take-back", line.take_back, "Let it go on after all");

  CLI::App* verify = add(app, line, Command::kVerify, "verify",
                         "Read again all that a run rests on, and find damage", kVerifyFooter);
  add_config(verify, &line);
  add_reporting(verify, &line);

  CLI::App* config = add(app, line, Command::kConfig, "config",
                         "Print the effective configuration, with comments", kConfigFooter);
  add_config(config, &line, false);
  config->add_flag("--reference", line.reference, "Print the reference of all settings instead");

  CLI::App* hash =
      add(app, line, Command::kHash, "hash", "Print the hash of a result's content", kHashFooter);
  hash->add_option("PATH", line.path, "Expert, checkpoint, factor store or run folder")
      ->required()
      ->type_name("");
  hash->add_flag("--json", line.json, "Report as one JSON object on stdout");
}

// The command that was typed, or the program itself.
const CLI::App& used(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen[0];
}

std::string see(const CLI::App& app) {
  return &used(app) == &app ? std::string("; see svfleet --help")
                            : "; see svfleet " + used(app).get_name() + " --help";
}

void refuse_unknown_command(const CLI::App& app, const char* word) {
  if (&used(app) != &app || word[0] == '-') return;
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::string near = nearest(word, names);
  throw user_error("unknown command '", shown(word), "'",
                   near.empty() ? "" : ", did you mean '" + near + "'?", see(app));
}

// What CLI11 does not like, in words of ours.
[[noreturn]] void refuse_arguments(const CLI::App& app, const CLI::ParseError& error, int argc,
                                   const char* const* argv) {
  if (argc <= 1) throw user_error("no command was given; see svfleet --help");
  refuse_unknown_command(app, argv[1]);
  if (&used(app) == &app)
    if (const std::string near = meant(app, argv[1]); !near.empty())
      throw user_error("unknown option '", shown(argv[1]), "'", near, see(app));
  if (dynamic_cast<const CLI::ExtrasError*>(&error))
    throw user_error(shown(unexpected(app, argc, argv)), see(app));
  throw user_error(shown(first_line(error.what())), see(app));
}

void check_experts(const CommandLine& line, const CLI::App& app) {
  if (line.controls && line.experts.empty())
    throw user_error("--controls are made of an expert: give --expert FILE", see(app));
  for (size_t i = 0; i < line.experts.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (resolved_path(line.experts[i]) == resolved_path(line.experts[k]))
        throw user_error(
            "--expert '", shown(line.experts[i]), "' is given twice",
            line.experts[i] == line.experts[k] ? "" : ", first as '" + shown(line.experts[k]) + "'",
            "; leave one out");
}

}  // namespace

CommandLine parse_command_line(int given, const char* const* words) {
  // "help" and "help COMMAND" are people's ways of --help.
  std::vector<const char*> all(words, words + given);
  if (given > 1 && std::string(words[1]) == "help") {
    all.erase(all.begin() + 1);
    all.push_back("--help");
  }
  const int argc = int(all.size());
  const char* const* argv = all.data();
  CommandLine line;
  CLI::App app(kAbout, "svfleet");
  app.require_subcommand(1);
  app.set_version_flag("-v,--version", std::string("svfleet ") + SVFLEET_VERSION);
  app.add_flag_callback(
      "--reference", [] { throw CLI::CallForAllHelp(); },
      "Print the page of all commands, docs/commands.md");
  app.footer(kExamples);
  app.get_formatter()->column_width(34);

  add_commands(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    if (argc > 1) refuse_unknown_command(app, argv[1]);
    line.text = app.help();
    return line;
  } catch (const CLI::CallForAllHelp&) {
    line.text = reference(app);
    return line;
  } catch (const CLI::CallForVersion& version) {
    line.text = std::string(version.what()) + "\n";
    return line;
  } catch (const CLI::ParseError& error) {
    refuse_arguments(app, error, argc, argv);
  }
  const bool prints = line.reference || line.site.print_template;
  check_evaluate(line, see(app));
  const bool wants_config = line.command == Command::kConfig     ? !prints
                            : line.command == Command::kEvaluate ? line.from.empty()
                            : line.command == Command::kTrain || line.command == Command::kSubmit
                                ? line.fork.empty() && !prints
                                : false;
  if (wants_config && line.config_file.empty()) throw user_error("CONFIG is required", see(app));
  if (line.temperature && !std::isfinite(*line.temperature))
    throw user_error("--temperature must be a number", see(app));
  check_experts(line, app);
  return line;
}

}  // namespace svfleet
