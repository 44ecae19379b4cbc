// What `svfleet evaluate` found, for people: the layout that scripts/compare.py has too (a test
// compares them).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/training/measurement.h"

namespace svfleet {

// Of the object that --json prints; docs/formats.md.
std::string evaluation_table(const nlohmann::json& evaluation);

// Prints it, or with `as_json` the object. Controls that reach an expert are a warning then.
// `adaptation`: what goes beside it (adaptation_report.h); null: nothing.
void tell_evaluation(const Measurement& measured, bool as_json,
                     const nlohmann::json& adaptation = nullptr);

}  // namespace svfleet
