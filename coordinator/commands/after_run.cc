// svfleet after-run: what a job script asks when its ranks have ended.
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cluster/next_start.h"
#include "cluster/program.h"
#include "cluster/restart.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/run/account.h"
#include "coordinator/run/pulse.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Whether this start of the job came so far as to have the run folder. When the disk fails: yes,
// since nobody can tell.
bool began(const CommandLine& line) {
  Account account;
  try {
    account = read_account(line.path);
  } catch (const Error&) {
    return true;
  }
  return !account.attempts.empty() && account.attempts.back().attempt.job == line.after_job &&
         account.attempts.back().attempt.restarts == line.after_restarts &&
         account.attempts.back().attempt.start == line.after_start;
}

// Where the ranks are to be started next.
NextStart plan_of(const CommandLine& line, const RunDecision& decision) {
  const Allocation allocation{slurm_job().nodes, line.after_nodes,
                              expand_node_list(line.job.exclude)};
  return next_start(decision, allocation, [&] {
    const char* partition = std::getenv("SLURM_JOB_PARTITION");
    // Which nodes a reservation has is not asked.
    if (!partition || std::getenv("SLURM_JOB_RESERVATION")) return std::vector<std::string>{};
    return nodes_up(
        run_program({"sinfo", "-h", "-N", "-p", partition, "-o", "%N %T %f,%G,%m"}, 5).out,
        allocation.nodes);
  });
}

}  // namespace

int after_run_command(const CommandLine& line) {
  const auto sign = last_sign_of_life(line.path);
  const double sign_s = sign && sign->job == line.after_job ? sign->time_s : 0;
  RunDecision decision{kExitRequeue, "not started again", false};
  // A configuration that does not load, say: no rank can report before it has the run folder.
  const bool refused = line.after_code == kExitUser && !began(line);
  if (!line.not_again)
    decision = decide_after_run({line.path, line.store, line.after_job, line.after_restarts,
                                 line.after_start, line.job.patience, refused},
                                job_phase);
  if (!decision.taken_over)
    note_job_end(line.path, line.after_job, line.after_restarts, line.after_start,
                 decision.code == kExitRequeue && !line.not_again, decision.message, sign_s);
  if (line.plan) std::printf("plan %s\n", in_words(decision, plan_of(line, decision)).c_str());
  if (line.json)
    std::printf("%s\n",
                json{{"code", decision.code}, {"message", decision.message}}.dump().c_str());
  else
    std::printf("svfleet job: %s\n", decision.message.c_str());
  return decision.code;
}

}  // namespace svfleet
