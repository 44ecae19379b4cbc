// The part of the training run that does not trust the memory it computes with.
#include <spdlog/spdlog.h>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/training/fork.h"
#include "coordinator/training/trainer.h"

namespace svfleet {
namespace {

// What the run before left, as of a process that has read its weights anew and goes on after
// `step`.
CleanRecord begun_at(int64_t step, std::optional<CleanRecord> before, int64_t first) {
  CleanRecord record = before.value_or(CleanRecord{first, {}, ""});
  std::erase_if(record.unchecked, [&](const auto& steps) { return steps.first >= step; });
  for (auto& [from, to] : record.unchecked) to = std::min(to, step);
  if (step > record.step) record.unchecked.emplace_back(record.step, step);
  record.step = step;
  return record;
}

}  // namespace

void Trainer::start_watch() {
  watch.emplace(*base.model, crew, state.step);
  if (!crew.leads()) return;
  const auto before = read_clean(folder.path());
  const auto parent = lineage(state.parent);
  clean = begun_at(state.step, before, parent ? parent->step : 0);
  if (before && state.step > before->step)
    spdlog::info(
        "steps {} to {} are of a process that ended before it had looked at its weights again",
        before->step + 1, state.step);
  if (before != clean) write_clean(folder.path(), clean);
  // It may have been set aside; with the one before, what it was made from is kept.
  if (state.best_step < 0 || file_exists(folder.expert_path("best"))) return;
  try {
    save("best",
         state.best_step == state.step ? state : load_checkpoint(folder.path(), state.best_step));
  } catch (const Error& error) {
    spdlog::warn("the best expert cannot be written again: {}", error.what());
  }
}

void Trainer::note_clean() {
  if (!watch || watch->clean_step() == clean.step) return;
  clean.step = watch->clean_step();
  write_clean(folder.path(), clean);
}

void Trainer::trust(const std::string& change) {
  if (change.empty()) return;
  const int64_t step = watch->clean_step();
  if (crew.leads()) {
    clean.step = step;
    clean.changed = change;
    const std::vector<std::string> moved = set_suspects_aside(folder.path(), clean);
    log->event("suspect", {{"changed", change}, {"clean_step", step}, {"set_aside", moved}});
  }
  crew.group().barrier("set suspect checkpoints aside");  // a rank that ends takes rank 0 with it
  const std::string text = change + " changed in memory by step " + std::to_string(state.step) +
                           ": bad memory; what was made after step " + std::to_string(step) +
                           " is set aside as *.suspect; start again to go on from there, and leave "
                           "out that host if this comes again";
  throw Error(kExitRequeue, text, watch->changed_here());
}

}  // namespace svfleet
