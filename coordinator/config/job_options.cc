#include "coordinator/config/job_options.h"

#include <CLI/CLI.hpp>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kSubmitFooter[] =
    R"(Checks what can be known before the queue, writes RUN/job.sh and hands it to sbatch. The job stops
at a chunk boundary when it is preempted or its time ends, has itself started again, and goes on.

Examples:
  svfleet submit run.yaml --nodes 8 --cpus-per-task 32 --partition preemptible --time 8:00:00
  svfleet submit run.yaml --nodes 2 --dry-run
  svfleet submit run.yaml --nodes 2 --time 4:00:00 --chain 6      where requeueing is forbidden
  svfleet submit run.yaml --mpi pmi2 --prelude modules.sh --sbatch=--mail-type=END
  svfleet submit --print-template > site.sh      to be changed and given by --template site.sh)";

constexpr char kAfterRunFooter[] =
    R"(For job scripts. Reads RUN/exit.json, prints one line, and ends with the code that the job should
end with; 75 means that the job is to be started again.

Example:
  svfleet after-run runs/a --job "$SLURM_JOB_ID" --restarts "${SLURM_RESTART_COUNT:-0}")";

// Limits far above any machine: a slip of the finger must not reach Slurm.
CLI::Validator from_one_to(int64_t most) {
  return CLI::Range(int64_t{1}, most).description("");
}

void add_patience(CLI::App* command, CommandLine* line) {
  command
      ->add_option("--patience", line->job.patience,
                   "Starts in a row without progress after which the job gives up (3)")
      ->type_name("N")
      ->check(from_one_to(1000));
}

void add_site(CLI::App* command, SiteWords& site) {
  command
      ->add_option("--mpi", site.mpi,
                   "How srun starts MPI: pmix, pmi2, cray_shasta, none, or 'default' for what "
                   "Slurm is configured to (pmix)")
      ->type_name("TYPE");
  command
      ->add_option("--sbatch", site.sbatch,
                   "One more option of sbatch, such as --sbatch=--reservation=spring; may be "
                   "repeated")
      ->type_name("OPTION")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  command
      ->add_option("--prelude", site.prelude,
                   "Lines of bash for before the ranks, such as 'module load'")
      ->type_name("FILE");
  command
      ->add_option("--template", site.job_template,
                   "A job script with @PLACES@ instead of the one of --print-template")
      ->type_name("FILE")
      ->envname("SVFLEET_TEMPLATE");
  command->add_flag("--print-template", site.print_template,
                    "Print the template of the job script and submit nothing");
}

}  // namespace

void add_submit_options(CLI::App* command, CommandLine* line) {
  command->footer(kSubmitFooter);
  JobRequest& job = line->job;
  const auto count = [&](const char* name, int64_t& value, int64_t most, const char* about) {
    command->add_option(name, value, about)->type_name("N")->check(from_one_to(most));
  };
  const auto text = [&](const char* name, std::string& value, const char* type, const char* about) {
    command->add_option(name, value, about)->type_name(type);
  };
  count("--nodes", job.nodes, 100000, "Nodes (1)");
  command
      ->add_option("--spare", job.spare,
                   "Nodes more than --nodes; they work too, and the run need not wait in the queue "
                   "when one of all has to be left out (0)")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{100000}).description(""));
  count("--ranks-per-node", job.ranks_per_node, 1024, "Processes on each node (1)");
  count("--cpus-per-task", job.cpus_per_task, 4096, "Cores of each process (1)");
  text("--partition", job.partition, "NAME", "Where; Slurm's default partition otherwise");
  text("--time", job.time, "LIMIT", "Minutes, H:MM:SS or D-HH:MM:SS, for each start of the job");
  text("--account", job.account, "NAME", "Whose account is charged");
  text("--qos", job.qos, "NAME", "Quality of service");
  text("--gres", job.gres, "LIST", "Devices of each node, such as gpu:4");
  text("--mem", job.memory, "SIZE",
       "Memory of each node: MiB, or with K, M, G, T; 0: all that it has");
  text("--constraint", job.constraint, "EXPR", "Only nodes with these features, such as '[a|b]'");
  text("--exclude", job.exclude, "NODES", "Not on these nodes, such as n[3-5]");
  text("--job-name", job.name, "NAME", "svfleet-<name of run_dir> otherwise");
  count("--chain", job.chain, 1000,
        "Jobs in a row, each after the end of the one before, for sites that forbid requeueing");
  command->add_flag_callback(
      "--no-requeue", [&job] { job.requeue = false; },
      "End with code 75 instead of asking to be started again");
  add_patience(command, line);
  command->add_flag("--allow-local", job.allow_local,
                    "Accept a run folder that only one machine sees; for a single node");
  add_site(command, line->site);
  command->add_flag("--dry-run", line->dry_run, "Print the job script and submit nothing");
  command->add_flag("--json", line->json, "Report as one JSON object on stdout");
}

void add_after_run_options(CLI::App* command, CommandLine* line) {
  command->footer(kAfterRunFooter);
  command->add_option("RUN", line->path, "Run folder")->required()->type_name("");
  command->add_option("--job", line->after_job, "The job's number")->required()->type_name("JOB");
  command->add_option("--restarts", line->after_restarts, "How often Slurm has restarted it")
      ->required()
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1000000}).description(""));
  command
      ->add_option("--start", line->after_start,
                   "How often the script itself has started the ranks "
                   "again since (0)")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1000000}).description(""));
  command
      ->add_option("--store", line->store, "The factor store: finished matrices are progress too")
      ->type_name("DIR");
  add_patience(command, line);
  command
      ->add_option("--code", line->after_code, "What srun ended with: a hint where nobody reports")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{255}).description(""));
  command->add_flag(
      "--plan", line->plan,
      "First a line for the script: 'plan again COUNT WITHOUT', 'plan requeue WITHOUT', "
      "'plan end' or 'plan leave'");
  command->add_option("--nodes", line->after_nodes, "As submit's; without it never 'again'")
      ->type_name("N")
      ->check(from_one_to(100000));
  command->add_option("--exclude", line->job.exclude, "As submit's")->type_name("NODES");
  command->add_flag("--not-again", line->not_again,
                    "Note that the job is not started again, whatever the run needs");
  command->add_flag("--json", line->json, "Report as one JSON object on stdout");
}

}  // namespace svfleet
