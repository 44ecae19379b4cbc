#include "coordinator/commands/submission.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "checkpoints/file.h"
#include "cluster/job_template.h"
#include "cluster/program.h"
#include "cluster/sbatch_option.h"
#include "comm/error.h"
#include "coordinator/config/reader.h"

namespace svfleet {
namespace {

// The variables that stand in for options which are not given.
constexpr struct {
  const char* variable;
  std::string JobRequest::*field;
} kAdopted[] = {{"SBATCH_PARTITION", &JobRequest::partition},
                {"SBATCH_TIMELIMIT", &JobRequest::time},
                {"SBATCH_ACCOUNT", &JobRequest::account},
                {"SBATCH_QOS", &JobRequest::qos},
                {"SBATCH_GRES", &JobRequest::gres},
                {"SBATCH_MEM_PER_NODE", &JobRequest::memory},
                {"SBATCH_CONSTRAINT", &JobRequest::constraint}};

std::vector<std::string> kept_from_sbatch(const JobRequest& ask) {
  std::vector<std::string> names = {
      "SBATCH_JOB_NAME", "SBATCH_OUTPUT", "SBATCH_OPEN_MODE", "SBATCH_SIGNAL", "SBATCH_REQUEUE",
      "SBATCH_NO_REQUEUE",
      // Not in the script, but it would no longer hold: errors in another file, many jobs at once
      // on one run, another cluster than the one that was asked, no answer before the job's end.
      "SBATCH_ERROR", "SBATCH_ARRAY_INX", "SBATCH_CLUSTERS", "SBATCH_WAIT", "SLURM_RESTART_COUNT"};
  for (const auto& adopted : kAdopted) names.push_back(adopted.variable);
  for (const SbatchOption& option : ask.site.options) {
    std::string name = "SBATCH_" + option.name;
    for (char& c : name) c = c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
    names.push_back(name);
  }
  if (!ask.memory.empty()) {  // these exclude each other
    names.push_back("SBATCH_MEM_PER_CPU");
    names.push_back("SBATCH_MEM_PER_GPU");
  }
  // Within a job: srun would take the outer job's SLURM_MEM_PER_NODE, SLURM_NTASKS... for its own.
  // The names that a site or user sets for all of Slurm's commands stay.
  if (std::getenv("SLURM_JOB_ID"))
    for (const char* of_job :
         {"SLURM_JOB_*",        "SLURM_JOBID",    "SLURM_STEP_*",    "SLURM_STEPID",
          "SLURM_ARRAY_*",      "SLURM_TASK*",    "SLURM_PROCID",    "SLURM_LOCALID",
          "SLURM_NODEID",       "SLURM_NODELIST", "SLURM_NNODES",    "SLURM_NODE_ALIASES",
          "SLURM_NPROCS",       "SLURM_NTASKS*",  "SLURM_CPUS_*",    "SLURM_CPU_BIND*",
          "SLURM_MEM_*",        "SLURM_GPU*",     "SLURM_TRES_*",    "SLURM_GTIDS",
          "SLURM_DISTRIBUTION", "SLURM_DIST_*",   "SLURM_HINT",      "SLURM_THREADS_PER_CORE",
          "SLURM_SUBMIT_*",     "SLURM_HET_*",    "SLURM_OPEN_MODE", "SLURM_OVERCOMMIT",
          "SLURM_EXPORT_ENV",   "SLURM_LAUNCH_*", "SLURM_SRUN_*",    "SLURM_PRIO_PROCESS",
          "SLURM_PMIX*",        "SLURM_UMASK"})
      names.push_back(of_job);
  return names;
}

// Error(kExitUser) when a word of the request is none that Slurm could take.
void check_words(const JobRequest& ask) {
  constexpr const char* kUsual = "_.,:=+-@/";
  const struct {
    const char* option;
    const std::string& value;
    const char* signs;
  } words[] = {{"--partition", ask.partition, kUsual},
               {"--account", ask.account, kUsual},
               {"--qos", ask.qos, kUsual},
               {"--gres", ask.gres, kUsual},
               {"--constraint", ask.constraint, "_.,:=+-@/[]|&()*"},
               {"--exclude", ask.exclude, "_.,-[]"},  // with / it would be a file
               {"--job-name", ask.name, kUsual}};
  for (const auto& [option, value, signs] : words)
    for (const char c : value)
      if (!std::isalnum(static_cast<unsigned char>(c)) && !std::strchr(signs, c))
        throw user_error(option, " '", shown(value), "' may hold letters, digits and ", signs,
                         " only");
  if (!ask.time.empty() && !time_limit_s(ask.time))
    throw user_error("--time '", ask.time,
                     "' is no time limit; give minutes, H:MM:SS or D-HH:MM:SS");
  if (!ask.memory.empty() && !memory_mib(ask.memory))
    throw user_error("--mem '", ask.memory,
                     "' is no size; give MiB, or a number with K, M, G or T");
  if (ask.allow_local && ask.nodes + ask.spare > 1)
    throw user_error("--allow-local is for a single node: with --nodes ", ask.nodes,
                     " every node must see the same folders");
}

// Error(kExitUser) for what no srun takes; where srun tells its types, for all others.
void check_mpi(const std::string& type) {
  for (const char c : type)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_')
      throw user_error("--mpi '", shown(type),
                       "' is no type of srun's; srun --mpi=list shows them");
  if (type.empty() || type == "default") return;
  const Answer answer = run_program({"srun", "--mpi=list"}, 30);
  if (!answer.started || answer.exit_code != 0) return;
  std::string types;
  std::istringstream words(answer.out + " " + answer.err);
  for (std::string word; words >> word;) {
    if (word == type) return;
    types += " " + word;
  }
  throw user_error("--mpi '", type, "' is not known here; srun says:", types);
}

}  // namespace

void check_bash(const std::string& text, const std::string& name) {
  const Answer answer = run_program({"bash", "-n", "-c", text}, 30);
  if (!answer.started || !answer.complete || answer.exit_code == 0) return;
  const std::string said = answer.err.substr(0, answer.err.find('\n'));
  const std::string begin = "bash: -c: ";
  throw user_error(name, ": bash cannot read it: ",
                   said.rfind(begin, 0) == 0 ? said.substr(begin.size()) : said);
}

void adopt_site(const SiteWords& words, JobRequest& ask) {
  check_mpi(words.mpi);
  ask.site.mpi = words.mpi;
  if (!words.prelude.empty()) {
    ask.site.prelude = read_file(words.prelude);
    check_prelude(ask.site.prelude, words.prelude);
    check_bash(ask.site.prelude, words.prelude);
  }
  if (!words.job_template.empty()) {
    ask.site.name = words.job_template;
    ask.site.text = read_file(words.job_template);
  }
  for (const std::string& text : words.sbatch) {
    const SbatchOption option = sbatch_option(text, "--sbatch");
    bool contradicts = false;
    if (!adopt(option, ask, &contradicts)) ask.site.options.push_back(option);
    if (contradicts)
      throw user_error("--sbatch '", text, "' says otherwise than submit's own --", option.name,
                       "; give one of them");
  }
}

void adopt_defaults(JobRequest& ask) {
  check_words(ask);
  for (const auto& [name, member] : kAdopted) {
    const char* value = std::getenv(name);
    std::string& field = ask.*member;
    if (!value || !field.empty()) continue;
    field = value;
    try {
      check_words(ask);
    } catch (const Error& error) {
      throw user_error(error.what(), " (it comes from ", name, ")");
    }
  }
  if (ask.site.name.empty()) return;
  adopt_template_options(ask.site.text, ask.site.name, ask);
  check_words(ask);
}

std::string hand_in(const std::string& script, const JobRequest& ask, const std::string& after) {
  std::vector<std::string> words = {"sbatch", "--parsable"};
  // Not 'singleton', which does not wait for the end of COMPLETING; nor in the script, which can be
  // handed in again as it is.
  if (!after.empty()) words.push_back("--dependency=afterany:" + after);
  words.push_back(script);
  const Answer answer = run_program(words, 60, kept_from_sbatch(ask));
  if (!answer.started) throw user_error("Slurm's command 'sbatch' is not installed here");
  const std::string& said = answer.complete ? answer.err : "no answer in 60 s";
  if (!answer.complete || answer.exit_code != 0)
    throw user_error("Slurm refuses the job: ", said.substr(0, said.find('\n')), "; the script is ",
                     script);
  return answer.out.substr(0, answer.out.find_first_of(";\n"));
}

}  // namespace svfleet
