// Evaluations and adaptations that were kept in a run folder.
#pragma once

#include <string>
#include <vector>

#include "coordinator/report/found.h"

namespace svfleet {

// How many samples of each policy are kept, that were gained and that were lost.
inline constexpr int64_t kSamplesShown = 5;

// Of evaluation*.json, adaptation*.json, evaluation*.jsonl and readings.jsonl; damage goes to
// `notes`.
FoundResults find_results(const std::string& folder, std::vector<std::string>& notes);

// record[key] where it is a text, else "".
std::string text_at(const nlohmann::json& record, const std::string& key);

}  // namespace svfleet
