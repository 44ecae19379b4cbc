// What evaluate has measured, policy by policy, as JSON: the results, and every reply.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/training/evaluation.h"

namespace svfleet {

struct EvaluationRow {
  Evaluation evaluation;
  McNemar paired;  // against the base
  PairedT gain;    // of the score, likewise
  size_t of = 0;   // of a control: the row of its expert
};

// `row` against the base's.
EvaluationRow row_beside(const EvaluationRow& base, Evaluation evaluation, size_t of);

// [{name, right, n, ...}], the base's first; what the table and --json show.
nlohmann::json results_json(const std::vector<EvaluationRow>& rows);

// An object a line for each item, with the reply of each.
std::string item_lines(const std::vector<Task>& tasks, const std::vector<EvaluationRow>& rows);

}  // namespace svfleet
