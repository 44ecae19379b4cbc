// The figures and tests of an evaluation as JSON: what the table and --json show.
#pragma once

#include <nlohmann/json.hpp>

#include "coordinator/training/measurement.h"

namespace svfleet {

// {split, n, temperature, results}; docs/formats.md. Of what was measured alone, so that a file of
// `evaluate --out` gives the same to the digit.
nlohmann::json evaluation_json(const Measurement& measured);

}  // namespace svfleet
