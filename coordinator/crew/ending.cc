#include "coordinator/crew/ending.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "cluster/exit_report.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/agreement.h"
#include "comm/wait.h"
#include "coordinator/run/account.h"
#include "worker/failure.h"

namespace svfleet {
namespace {

// Ranks that meet the same error meet it within this time, and rank 0 then ends the others.
constexpr int kAlikeSeconds = 5;

// For exit.json and the ledger, on a disk that may hang.
constexpr double kReportLimit_s = 30;

bool among(const std::vector<std::string>& hosts, const std::string& host) {
  return std::find(hosts.begin(), hosts.end(), host) != hosts.end();
}

ExitReport report_of(int code, const std::string& reason, int64_t step,
                     const std::vector<std::string>& hosts) {
  const SlurmJob slurm = slurm_job();
  return {reason, code, slurm.job, slurm.restarts, step, slurm.start, hosts};
}

// What another rank has said of this very start. One that is told of no job takes what is there.
std::optional<ExitReport> said_before(const std::string& run_dir) {
  const SlurmJob slurm = slurm_job();
  auto before = read_exit_report(run_dir);
  if (before && !slurm.job.empty() &&
      std::tie(before->job, before->restarts, before->start) !=
          std::tie(slurm.job, slurm.restarts, slurm.start))
    before.reset();
  return before;
}

// What looks like a fault of a machine is ours when an earlier start met it at the same place on
// another one.
AgreedError judged(const AgreedError& error, const std::string& run_dir) {
  if (error.place().empty()) return error;
  for (const AttemptReport& earlier : read_account(run_dir).attempts) {
    if (earlier.blame.place != error.place()) continue;
    for (const std::string& host : earlier.blame.hosts)
      if (!among(error.hosts(), host))
        return AgreedError(kExitInternal,
                           std::string(error.what()) + "; it failed there on host " + host +
                               " too: this is a bug, please report it",
                           {});
  }
  return error;
}

void end_of_ledger(Ledger* ledger, int code, const std::string& reason, double timeout_s,
                   const Blame& blame = {}) {
  const bool timeout = code == kExitRequeue && reason.rfind("timeout after", 0) == 0;
  ledger->end(code, reason, timeout ? timeout_s : 0, blame);
}

Error report_agreed(const AgreedError& agreed, const RunFolder& folder, Crew& crew,
                    Ledger* ledger) {
  const std::vector<std::string>& hosts = crew.hosts();
  const auto sound = std::find_if(hosts.begin(), hosts.end(), [&](const std::string& host) {
    return !among(agreed.hosts(), host);
  });
  const bool stands_in = sound != hosts.end() && sound - hosts.begin() == crew.group().rank();
  if (!crew.leads() && !stands_in) return agreed;
  const AgreedError error = judged(agreed, folder.path());
  if (crew.leads())
    end_of_ledger(ledger, error.code(), error.what(), crew.timeout_s(),
                  {error.hosts(), error.place()});
  write_exit_report(folder.path(), report_of(error.code(), error.what(), -1, error.hosts()));
  return error;
}

Error report_alone(const Error& error, const RunFolder& folder, Crew& crew, Ledger* ledger) {
  const std::string host = crew.group().host();
  std::vector<std::string> hosts;
  if (error.of_node() && error.code() != kExitUser) hosts = {host};
  if (crew.leads()) {
    // The rank for which this one has waited in vain may have told of its machine. Without a job
    // what is there may be an earlier start's.
    if (const auto before = said_before(folder.path()); before && !slurm_job().job.empty())
      for (const std::string& other : before->hosts)
        if (!among(hosts, other)) hosts.push_back(other);
    end_of_ledger(ledger, error.code(), error.what(), crew.timeout_s(), {hosts, ""});
    write_exit_report(folder.path(), report_of(error.code(), error.what(), -1, hosts));
    return error;
  }
  Error end = error;
  if (error.of_node() && error.code() == kExitUser) {
    sleep(kAlikeSeconds);
    end = Error(kExitDisk, error.what(), true);  // the others read what this one cannot
    hosts = {host};
  }
  if (const auto before = said_before(folder.path())) {
    if (hosts.empty() || before->hosts.empty() || among(before->hosts, host)) return end;
    ExitReport both = *before;
    both.hosts.push_back(host);
    write_exit_report(folder.path(), both);
    return end;
  }
  const std::string reason = "rank " + crew.group().name(crew.group().rank()) + ": " + end.what();
  write_exit_report(folder.path(), report_of(end.code(), reason, -1, hosts));
  return end;
}

}  // namespace

void report_end(const RunFolder& folder, Crew& crew, Ledger* ledger, int code, std::string reason,
                int64_t step, const RunState* best) {
  if (!crew.leads()) return;
  const std::string signal = stop_signal_name();
  if (reason.empty() && code == kExitFinished) reason = "finished";
  if (reason.empty())
    reason = "stopped by " + (signal.empty() ? "a signal to another rank" : signal);
  const Watchdog limit("svfleet: " + reason + "; exit.json could not be written in time",
                       kReportLimit_s, code == kExitFinished ? int(kExitRequeue) : code);
  ExitReport report = report_of(code, reason, step, {});
  if (best && best->best_step >= 0) {
    report.best_step = best->best_step;
    report.best_score = best->best_score;
  }
  write_exit_report(folder.path(), report);
  end_of_ledger(ledger, code, reason, crew.timeout_s());
}

void end_soon(const std::exception_ptr& failure, const Crew& crew) {
  const Error error = failure_of(failure, crew.device()).error;
  end_within(kReportLimit_s, std::string("svfleet: ") + error.what(), error.code());
}

Error report_failure(const std::exception_ptr& failure, const RunFolder& folder, Crew& crew,
                     Ledger* ledger) {
  Error error = failure_of(failure, crew.device()).error;
  end_within(kReportLimit_s, std::string("svfleet: ") + error.what(), error.code());
  try {
    try {
      std::rethrow_exception(failure);
    } catch (const AgreedError& agreed) {
      error = report_agreed(agreed, folder, crew, ledger);
    } catch (...) {
      error = report_alone(error, folder, crew, ledger);
    }
  } catch (const Error&) {  // the folder itself may be what failed
  }
  return error;
}

}  // namespace svfleet
