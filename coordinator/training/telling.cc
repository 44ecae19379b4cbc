#include "coordinator/training/telling.h"

#include <unistd.h>

#include <algorithm>

#include "checkpoints/file.h"
#include "cluster/slurm.h"

namespace svfleet {
namespace {

SignOfLife first_sign(const Config& config, const Crew& crew) {
  const SlurmJob slurm = slurm_job();
  SignOfLife sign;
  sign.host = crew.hosts()[0];
  sign.pid = getpid();
  sign.job = slurm.job;
  sign.restarts = slurm.restarts;
  sign.doing = "loading the model";
  for (const Config& own : runs_of_one(config)) sign.steps = std::max(sign.steps, own.train.steps);
  return sign;
}

void start_pulse(const Config& config, const RunFolder& folder, const Crew& crew, Telling& tell) {
  if (tell.ledger && !tell.pulse)
    tell.pulse = std::make_unique<Pulse>(folder.path(), first_sign(config, crew),
                                         [&folder] { folder.verify_owner(); });
}

}  // namespace

Telling start_telling(const Config& config, const RunFolder& folder, const Crew& crew) {
  Telling tell;
  if (!crew.leads()) return tell;
  const auto before = last_sign_of_life(folder.path());
  const SlurmJob slurm = slurm_job();
  const bool hold = folder.is_closed();
  tell.ledger = std::make_unique<Ledger>(
      folder.path(),
      Attempt{slurm.job, slurm.restarts, crew.ranks(), crew.slots(), crew.hosts(), slurm.start},
      process_began_s(), before ? before->time_s : 0, hold);
  if (!hold) start_pulse(config, folder, crew, tell);
  return tell;
}

void go_ahead(const Config& config, const RunFolder& folder, const Crew& crew, Telling& tell) {
  tell.ledger->go_ahead();
  start_pulse(config, folder, crew, tell);
}

}  // namespace svfleet
