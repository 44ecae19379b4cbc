// The last line of `svfleet train`: what came of the run, for people or as JSON.
#pragma once

#include "coordinator/config/command_line.h"
#include "coordinator/config/config.h"
#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/training/best.h"

namespace svfleet {

// Of a finished run. Validation, where there is one, chooses the expert.
void tell_finished(const RunState& end, const Config& config, bool already, bool as_json);
// Of a run that ended before it was finished, as somebody had asked.
void tell_asked_to_end(const RunState& state, const RunFolder& folder, bool as_json);

// Collective. A finished run in a folder that cannot be written stays as it is: says so when these
// are its settings.
bool is_closed_and_finished(const Config& config, const CommandLine& line, Crew& crew);

}  // namespace svfleet
