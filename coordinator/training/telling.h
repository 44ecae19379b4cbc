// What rank 0 tells of a start while it opens a run: the ledger, and signs of life.
#pragma once

#include <memory>

#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/ledger.h"
#include "coordinator/run/pulse.h"

namespace svfleet {

// Empty on other ranks.
struct Telling {
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Pulse> pulse;

  void doing(const char* what) {
    if (pulse) pulse->doing(what);
  }
  void spent(const char* on) {
    if (ledger) ledger->spent(on);
  }
};

// A finished run that is started again stays as it is: nothing is written before go_ahead().
Telling start_telling(const Config& config, const RunFolder& folder, const Crew& crew);
// From here on the run changes.
void go_ahead(const Config& config, const RunFolder& folder, const Crew& crew, Telling& tell);

}  // namespace svfleet
