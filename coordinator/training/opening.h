// What a start needs, read and checked in the order of its cost, so that what cannot go well is
// said before anything is decomposed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "coordinator/base/base.h"
#include "coordinator/config/command_line.h"
#include "coordinator/crew/crew.h"
#include "coordinator/crew/preflight.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/log.h"
#include "coordinator/training/fork.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/telling.h"

namespace svfleet {

// The same on every rank but for the log.
struct Opened {
  std::string hardware;  // identity() of this start
  std::optional<RunState> found;
  std::optional<Fork> fork;
  std::vector<RunItems> items;  // by expert
  std::unique_ptr<RunLog> log;  // rank 0
  Preflight preflight;
  Base base;
  double load_s = 0;  // spent on model and factors
};

// Collective. All that is cheap: folder, items, program, checkpoint, parent, disks.
Opened look_at(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew);

enum class Loaded { kAll, kNothingLeft, kStopped };
// Collective. The model with its factors, unless nothing is left to do or a stop was asked for
// meanwhile.
Loaded load(Opened& opened, const RunFolder& folder, const Config& config, Crew& crew,
            Telling& tell);

}  // namespace svfleet
